"""HistoSR: patches of 192 x 192 pixels from Camelyon16, 30,000 for training and 5,000 for test.

The official set (Chen et al., MICCAI 2020) is two LMDB folders. Only its high-resolution patches are unpacked. Its
low-resolution patches are Pillow's bicubic reductions of them; the protocol ``bicubic-rgb`` computes the same.
Unpacked files let one configuration train on all data sets with several data-loading processes. They take about 3 GB.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from experiments.preparation.output_folder import (
    Plan,
    PlannedImage,
    assign_folders,
    check_counts,
    fill_folder,
    source_digest,
)
from monai_iste.data.datasets import image_datalist
from monai_iste.errors import DataError, require_extra
from monai_iste.io.image_reader import image_size, read_rgb

#: Number of patches for training, validation and test; validation is part of the official 30,000 training patches.
COUNTS = (29_500, 500, 5_000)

#: Side of a patch in pixels.
SIDE = 192

_MAX_RECORD = 2**22  # bytes; a record is about 0.1 MB

_COMPARED = 8  # pairs whose low-resolution patch is compared with Pillow's reduction

# Opcodes of a pickled {str: bytes}. All others are rejected, and nothing is executed.
_ALLOWED_OPCODES = {
    *("PROTO", "FRAME", "EMPTY_DICT", "MARK", "BINPUT", "LONG_BINPUT", "MEMOIZE", "SETITEM", "SETITEMS", "STOP"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
}


class _Patches(Protocol):
    """Sequence of patches in a fixed order."""

    def __len__(self) -> int: ...
    def high(self, index: int) -> np.ndarray:
        """Read a high-resolution patch, (3, 192, 192) uint8."""

    def difference(self) -> float | None:
        """Compute the mean difference of some low-resolution patches to Pillow's bicubic, in 8-bit levels."""


def prepare_histosr(
    source: Path, root: Path, seed: int = 0, counts: Sequence[int] = COUNTS, quiet: bool = False
) -> dict[str, Any]:
    """Unpack the high-resolution patches of HistoSR.

    Not specified in the paper; our choice: the validation set is drawn from the training patches with the seed, because
    a selection of weights on the test patches would bias the scores.

    Args:
        source: folder with ``train_lmdb`` and ``test_lmdb`` (extra ``experiments``), directly or in ``bicubic/``; or
            with folders of patches as images, ``train_sr192`` and ``test_sr192``, or ``train`` and ``test``.
        root: see :func:`~experiments.preparation.output_folder.fill_folder`.
        seed: seed of the choice of validation patches.
        counts: number of patches for train, val and test; the first two add up to the official training patches.
        quiet: whether to hide the progress bar.
    Returns:
        the manifest; ``stored_difference`` is the mean difference of the stored low-resolution patches to Pillow's
        bicubic ones in 8-bit levels: near 0 for the bicubic set, several for the other set ("nearest").
    Raises:
        ConfigError: lmdb is not installed, or the counts are invalid.
        DataError: the source has neither layout, another number of patches, or a patch that is damaged or of another
            size.
        OutputError: see :func:`~experiments.preparation.output_folder.fill_folder`.
    """
    parts = check_counts(counts)
    places = {part: _find(source, part) for part in ("train", "test")}
    digest = source_digest(source, [file for place in places.values() for file in _files(place)])
    job = {"name": "histosr", "seed": seed, "counts": parts, "source": digest}

    @contextmanager
    def plan() -> Iterator[Plan]:
        with ExitStack() as opened:
            train, test = (opened.enter_context(_opened(places[part])) for part in ("train", "test"))
            _check_number(places["train"], len(train), parts["train"] + parts["val"])
            _check_number(places["test"], len(test), parts["test"])
            names = [f"train-{number:05d}" for number in range(1, len(train) + 1)]
            folders = assign_folders(names, {part: parts[part] for part in ("train", "val")}, seed)
            images = _planned(train, names, folders)
            images += _planned(test, [f"test-{number:05d}" for number in range(1, len(test) + 1)], ["test"] * len(test))
            about = {
                "mpp": None,
                "protocol": "bicubic-rgb",
                "source": {"patches": len(images), "digest": digest, "stored_difference": train.difference()},
            }
            yield Plan(images, about)

    return fill_folder(root, job, plan, quiet)


def _planned(patches: _Patches, names: Sequence[str], folders: Sequence[str]) -> list[PlannedImage]:
    return [
        PlannedImage(f"{folder}/{name}.png", (SIDE, SIDE), partial(patches.high, index))
        for index, (folder, name) in enumerate(zip(folders, names, strict=True))
    ]


def _find(source: Path, part: str) -> Path:
    names = (f"{part}_lmdb", f"bicubic/{part}_lmdb", f"{part}_sr192", part)
    found = next((source / name for name in names if (source / name).is_dir()), None)
    if found is None:
        raise DataError(f"{part}_lmdb or {part}_sr192 in {source}", "neither", "Name the folder that holds both parts.")
    return found


def _files(place: Path) -> list[Path]:
    database = place / "data.mdb"
    return [database] if database.is_file() else [Path(item["image"]) for item in image_datalist(place)]


def _check_number(place: Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(f"{expected:,} patches in {place}", f"{found:,}", "Download it again, or give other --counts.")


@contextmanager
def _opened(place: Path) -> Iterator[_Patches]:
    if not (place / "data.mdb").is_file():
        yield _ImagePatches(place)
        return
    lmdb = require_extra("lmdb", "experiments")
    try:
        environment = lmdb.open(str(place), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DataError(f"a readable LMDB in {place}", f"a damaged one ({error})", "Download it again.") from error
    with environment:
        yield _LMDBPatches(place, environment)


class _ImagePatches:
    """Patches stored as image files."""

    def __init__(self, place: Path) -> None:
        self._paths = [Path(item["image"]) for item in image_datalist(place)]

    def __len__(self) -> int:
        return len(self._paths)

    def high(self, index: int) -> np.ndarray:
        path = self._paths[index]
        _check_side(image_size(path), SIDE, str(path))
        return read_rgb(path)

    def difference(self) -> float | None:
        return None


class _Record(NamedTuple):
    """Pair of encoded images, low (``data``) and high resolution (``target``)."""

    data: bytes
    target: bytes


class _LMDBPatches:
    """Patches stored in an LMDB, in the order of its keys; values are pickled ``{"data": PNG, "target": PNG}``."""

    def __init__(self, place: Path, environment: Any) -> None:
        self._place, self._environment = place, environment
        with environment.begin() as transaction:
            self._keys = list(transaction.cursor().iternext(keys=True, values=False))

    def __len__(self) -> int:
        return len(self._keys)

    def high(self, index: int) -> np.ndarray:
        return _decoded(self._record(index).target, SIDE, self._name(index))

    def difference(self) -> float | None:
        differences = []
        for index in range(min(_COMPARED, len(self))):
            stored = _decoded(self._record(index).data, SIDE // 2, self._name(index))
            high = Image.fromarray(self.high(index).transpose(1, 2, 0))
            made = np.asarray(high.resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC), np.float64)
            differences.append(np.abs(made - stored.transpose(1, 2, 0)).mean())
        return round(float(np.mean(differences)), 3) if differences else None

    def _name(self, index: int) -> str:
        return f"record {index + 1} of {self._place}"

    def _record(self, index: int) -> _Record:
        with self._environment.begin(buffers=True) as transaction:
            value = transaction.get(self._keys[index])
            if len(value) > _MAX_RECORD:
                raise DataError(f"at most {_MAX_RECORD:,} bytes in {self._name(index)}", f"{len(value):,}", _REMEDY)
            return _unpickled(bytes(value), self._name(index))


_REMEDY = "Use HistoSR's own files."


def _unpickled(value: bytes, name: str) -> _Record:
    """Extract the two byte strings of a pickled dictionary without unpickling, which could execute code."""
    found: list[str | bytes] = []
    try:
        for opcode, argument, _ in pickletools.genops(value):
            if opcode.name not in _ALLOWED_OPCODES:
                raise ValueError(f"the instruction {opcode.name}")
            if isinstance(argument, (str, bytes)):
                found.append(argument)
        pair = dict(zip(found[::2], found[1::2], strict=True))
        data, target = pair["data"], pair["target"]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"a dictionary of bytes, data and target, in {name}", f"something else ({error})", _REMEDY
        ) from error
    if not (isinstance(data, bytes) and isinstance(target, bytes)):
        raise DataError(f"a dictionary of bytes, data and target, in {name}", "other types", _REMEDY)
    return _Record(data, target)


def _decoded(encoded: bytes, side: int, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "BMP", "TIFF")) as image:
            _check_side(image.size[::-1], side, name)  # before decoding
            if image.mode != "RGB":
                raise DataError(f"an 8-bit RGB image in {name}", f"one of mode {image.mode}", _REMEDY)
            return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"a readable image in {name}", f"a damaged one ({error})", _REMEDY) from error


def _check_side(size: tuple[int, int], side: int, name: str) -> None:
    if size != (side, side):
        raise DataError(f"{side} x {side} pixels in {name}", f"{size[0]} x {size[1]} (H x W)", _REMEDY)
