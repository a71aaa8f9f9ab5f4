"""Program that reads files by every public reading function; for the tests of damaged files.

It reads a path from each line of standard input and answers with a line of JSON: what each function did, the seconds
and the peak of memory meanwhile. The test ends it where it hangs.
"""

import json
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from monai_iste.data.datasets import pixel_counts
from monai_iste.errors import ISTEError
from monai_iste.inferers import Region
from monai_iste.io.image_reader import image_size, probe, read_rgb
from monai_iste.io.pixel_size import find_mpp
from monai_iste.slides import Slide, SuperResolvedWSIReader
from monai_iste.slides.tissue import tissue_mask
from monai_iste.transforms import LoadRGB
from monai_iste.viewer.catalog import Catalog


def functions(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield every way to read a file, by name."""
    yield "probe", lambda: probe(path)
    yield "image_size", lambda: image_size(path)
    yield "read_rgb", lambda: read_rgb(path)
    yield "find_mpp", lambda: find_mpp(path)
    yield "LoadRGB", lambda: LoadRGB()(str(path))
    yield "pixel_counts", lambda: pixel_counts([{"image": str(path)}])
    yield "Slide", lambda: _read_slide(path)
    yield "tissue_mask", lambda: _tissue(path)
    yield "SuperResolvedWSIReader", lambda: _read_virtual(path)
    yield "Catalog", lambda: _read_catalog(path)


def _read_slide(path: Path) -> None:
    with Slide(path, 0.5) as slide:
        for number, (height, width) in enumerate(slide.levels):
            slide.read(Region(0, 0, min(99, height), min(99, width)), number)
            slide.read(Region(height // 2, width // 2, max(1, height // 3), max(1, width // 3)), number)
        size = slide.size_at(0.9)
        slide.read_at(size, Region(0, 0, *(min(50, n) for n in size)))


def _tissue(path: Path) -> None:
    with Slide(path) as slide:
        tissue_mask(slide)


def _read_virtual(path: Path) -> None:
    reader = SuperResolvedWSIReader(mpp=0.25, source_mpp=0.5)
    slide = reader.read(str(path))
    reader.get_size(slide, 0)
    reader.get_mpp(slide, 0)


def _read_catalog(path: Path) -> None:
    catalog = Catalog([path], log=lambda text: None)
    for image in catalog:
        image.metadata()
        image.read(Region(0, 0, *(min(40, n) for n in image.size)))
        image.read_at((30, 40), Region(0, 0, 30, 40))
    catalog.close()


def outcome(function: Callable[[], object]) -> str:
    """Run a function: "ok", "refused" with one sentence, or what else it raised."""
    try:
        function()
    except ISTEError as error:
        sentence = str(error)
        taught = sentence.startswith("Expected ") and ", got " in sentence and sentence.endswith(".")
        return f"refused {sentence}" if taught and "\n" not in sentence else f"no sentence: {sentence}"
    except BaseException:
        return traceback.format_exc()
    return "ok"


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> int:
    """Largest resident memory since :func:`_reset_peak`, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        path, started = Path(line.rstrip("\n")), time.perf_counter()
        _reset_peak()
        found = {name: outcome(function) for name, function in functions(path)}
        seconds = time.perf_counter() - started
        print(json.dumps({"found": found, "seconds": seconds, "peak": _peak()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
