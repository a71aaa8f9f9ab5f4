"""Seconds until the viewer shows something: its start, views that nobody has looked at yet, and a pan.

python -m benchmarks.viewer SLIDE --views 700x700@3.37,700x700@1.5,1600x1000@3.37
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import typer

from benchmarks import common
from benchmarks.common import Row
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError

__all__ = ["View", "app", "parse_view", "parts_of", "viewer"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PROGRAM = "from monai_iste.cli.main import main; main()"
_MIN_PART = 256  # smallest side of a part in screen pixels, as the page has it
_TIMES = ("start", "page", "picture", "network", "part", "view", "pan")


class View(NamedTuple):
    """What a screen shows: width and height in its pixels, and screen pixels per slide pixel."""

    width: int
    height: int
    scale: float


@app.command()
def viewer(
    slide: Annotated[Path, typer.Argument(help="A slide or an image.")],
    views: Annotated[str, typer.Option("--views", help="WIDTHxHEIGHT@SCALE, separated by commas.")] = (
        "700x700@3.37,700x700@1.5,1600x1000@3.37"
    ),
    preset: Annotated[str, typer.Option("--preset", help="Preset.")] = DEFAULT_PRESET,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Processor threads of the network.")] = 2,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Servers that are started for each view.")] = 3,
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Start the viewer, and ask for what its page asks for, with empty caches.

    The view is in the middle of the slide. Its parts are asked for one after the other, then the whole, as by the page.
    """
    wanted = [parse_view(text) for text in common.split_words(views)]
    if not wanted:
        raise ConfigError("at least one view", repr(views), "Such as 700x700@3.37.")
    common.check_results(json_file)
    rows: list[Row] = [
        {"preset": preset, "threads": threads, **view._asdict(), **{name: [] for name in _TIMES}} for view in wanted
    ]
    for _ in range(repeats):
        for view, row in zip(wanted, rows, strict=True):
            for name, seconds in _observe(slide, view, preset, threads).items():
                row[name].append(seconds)
        common.save("Viewer", rows, "cpu", json_file)
    common.report("Viewer", rows, _format_row, "cpu", None)
    return rows


def parse_view(text: str) -> View:
    """Parse ``WIDTHxHEIGHT@SCALE``.

    Example:
        >>> parse_view("700x500@3.37")
        View(width=700, height=500, scale=3.37)
    """
    found = re.fullmatch(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)", text)
    if found is None or not (view := View(int(found[1]), int(found[2]), float(found[3]))).width * view.height:
        raise ConfigError("a view WIDTHxHEIGHT@SCALE", repr(text), "Such as 700x700@3.37.")
    if view.scale <= 1:
        raise ConfigError("a scale above 1, where pixels are inferred", f"{view.scale:g}", "Such as 700x700@3.37.")
    return view


def parts_of(view: View, corner: tuple[int, int], steps: tuple[float, float], grid: Mapping[str, int]) -> list[Row]:
    """Divide a view as the page does (``partsOf`` in its ``geometry.js``), the most central part first.

    Args:
        view: the view.
        corner: (y, x) of the view in output pixels of the whole slide.
        steps: distance of two output pixels in slide pixels, (y, x).
        grid: of the server's status.
    Returns:
        requests of ``/api/view``.
    """
    is_small = grid["window"] * view.scale < 4 * grid["block"]
    pieces = []
    for start, length, step, in_middles in zip(corner, (view.height, view.width), steps, (is_small, True), strict=True):
        window, overlap, block = grid["window"] / step, grid["overlap"] / step, grid["block"]
        if in_middles:
            distance = window * math.ceil(_MIN_PART / window)
            numbers = range(math.floor(start / distance) - 1, math.ceil((start + length) / distance))
            cuts = {math.floor((k * distance + window / 2) / block + 0.5) * block for k in numbers}
        else:
            numbers = range(max(1, math.floor(start / window)), math.ceil((start + length) / window) + 1)
            above = {math.floor((k * window - overlap / 2) / block) * block for k in numbers}
            cuts = above | {math.ceil((k * window + overlap / 2) / block) * block for k in numbers}
        inner = sorted(cut - start for cut in cuts if 0 < cut - start < length)
        pieces.append(list(zip([0, *inner], [*inner, length], strict=True)))
    boxes = [(top, bottom, left, right) for top, bottom in pieces[0] for left, right in pieces[1]]
    boxes.sort(key=lambda box: math.hypot(box[0] + box[1] - view.height, box[2] + box[3] - view.width))
    return [
        _request(View(right - left, bottom - top, view.scale), (corner[0] + top, corner[1] + left), steps)
        for top, bottom, left, right in boxes
    ]


def _request(view: View, corner: tuple[int, int], steps: tuple[float, float]) -> Row:
    return {
        **{"x": corner[1] * steps[1], "y": corner[0] * steps[0]},
        **{"w": view.width / view.scale, "h": view.height / view.scale},
        **{"width": view.width, "height": view.height},
    }


def _observe(slide: Path, view: View, preset: str, threads: int) -> dict[str, float]:
    """Seconds of one server: from its start, or from the request."""
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    with _server(slide, preset, threads) as address:
        seconds["start"] = time.perf_counter() - started
        _get(address)
        seconds["page"] = time.perf_counter() - started
        (image,) = json.loads(_get(f"{address}api/images"))[:1]
        sides = image["height"], image["width"]
        size = tuple(max(1, round(n * view.scale)) for n in sides)
        steps = sides[0] / size[0], sides[1] / size[1]
        corner = (size[0] - view.height) // 2, (size[1] - view.width) // 2
        pan = corner[0], corner[1] + view.width // 10
        if min(corner) < 0 or pan[1] + view.width > size[1]:
            raise ConfigError(
                f"a slide of which {view.width} x {view.height} pixels at x{view.scale:g} are a part",
                f"{sides[1]} x {sides[0]} pixels in {slide}",
                "Name a larger one.",
            )
        square = (
            f"{max(0, sides[1] // 2 - 256)},{max(0, sides[0] // 2 - 256)},{min(512, sides[1])},{min(512, sides[0])}"
        )
        _get(f"{address}iiif/{image['id']}/{square}/max/0/default.jpg")
        seconds["picture"] = time.perf_counter() - started
        while (status := json.loads(_get(f"{address}api/status")))["running"]:
            time.sleep(0.05)
        seconds["network"] = time.perf_counter() - started

        def ask(request: Row) -> None:
            _get(f"{address}api/view/{image['id']}?{urlencode({**request, 'method': 'sr'})}")

        started = time.perf_counter()
        for part in parts_of(view, corner, steps, status["grid"]):
            ask(part)
            seconds.setdefault("part", time.perf_counter() - started)
        ask(_request(view, corner, steps))
        seconds["view"] = time.perf_counter() - started
        started = time.perf_counter()
        ask(_request(view, pan, steps))
        seconds["pan"] = time.perf_counter() - started
    return seconds


@contextmanager
def _server(slide: Path, preset: str, threads: int) -> Iterator[str]:
    """Run the viewer's command on a free port; yields its address."""
    command = [sys.executable, "-c", _PROGRAM, "view", str(slide), "--no-browser", "--port", "0"]
    command += ["--preset", preset, "--threads", str(threads), "--allow-untrained"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            if found is None:
                raise ConfigError("a slide that the viewer opens", str(slide), "monai-iste view says what is wrong.")
            yield found[0]
        finally:
            server.terminate()


def _get(address: str) -> bytes:
    with urlopen(address) as answer:
        body: bytes = answer.read()
        return body


def _format_row(row: Row) -> Row:
    shown: dict[str, Any] = {
        "preset": row["preset"],
        "view": f"{row['width']}x{row['height']}",
        "scale": f"x{row['scale']:g}",
        "threads": row["threads"],
        "runs": len(row["view"]),
    }
    titles = ("address", "page", "first picture", "network loaded", "first part", "whole view", "pan by a tenth")
    times = {title: common.format_range(row[name], "{:.2f}") for title, name in zip(titles, _TIMES, strict=True)}
    return {**shown, **times}


if __name__ == "__main__":
    common.run(app)
