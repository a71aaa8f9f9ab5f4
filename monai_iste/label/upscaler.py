"""Upscaling of images and slide regions to files, with one network that is loaded once."""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from monai_iste.bundle import default_preset, find_weights
from monai_iste.errors import ScaleError
from monai_iste.functional import to_array
from monai_iste.io.image_writer import check_output, save_image, slide_suffix
from monai_iste.label.request import InferRequest, check_region
from monai_iste.networks.runtime import resolve_network, with_input_blur
from monai_iste.slides.job import SlideJob
from monai_iste.slides.plan import SlidePlan, plan_slide
from monai_iste.slides.provenance import network_provenance
from monai_iste.slides.reader import Slide
from monai_iste.slides.writers.writer import check_slide_output, write_slide

#: Largest width * height of a result: minutes on a CPU, during which other requests wait.
MAX_OUTPUT_PIXELS = 100_000_000


class _LoadedNetwork(NamedTuple):
    """Network and what it was made of; ``key`` is (device, modification time of the trained weights)."""

    key: tuple[str, int | None]
    network: nn.Module
    preset: str
    weights: str | None


class LabelUpscaler:
    """Upscale images and regions of slides to temporary files, one request at a time.

    Args:
        folder: output folder of the training. Its ``model.pt`` is used once it exists, the released weights before.

    Example:
        >>> from PIL import Image
        >>> from monai_iste.label.request import parse_request
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (30, 20), "pink").save(folder / "a.png")
        >>> request = parse_request({"scale": 2.5, "device": "cpu"})
        >>> file, record = LabelUpscaler(folder).upscale(folder / "a.png", request, "a")
        >>> Image.open(file).size, record["scale"]
        ((75, 50), [2.5, 2.5])
        >>> file.unlink()
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.threads = folder, torch.get_num_threads()  # the server's threads come and go
        self._lock = Lock()
        self._loaded: _LoadedNetwork | None = None

    def network(self, device: str, input_blur: float | None = None) -> tuple[nn.Module, dict[str, str]]:
        """Return the network on a device, told the blur, and its provenance. A finished training causes a reload."""
        trained = self.folder / "model.pt"
        key = (device, trained.stat().st_mtime_ns if trained.is_file() else None)
        if self._loaded is None or self._loaded.key != key:
            preset = default_preset(str(self.folder))
            weights = find_weights(str(self.folder), preset)
            network = resolve_network(preset, device, weights=weights)
            self._loaded = _LoadedNetwork(key, network, preset, weights)
        _, network, preset, weights = self._loaded
        return with_input_blur(network, input_blur), network_provenance(preset, weights, input_blur=input_blur)

    def upscale(self, path: Path, request: InferRequest, name: str, crop: bool = False) -> tuple[Path, dict[str, Any]]:
        """Upscale an image, a slide or a region of it to a new temporary file.

        The pixels of a region equal those of the whole upscaled image.

        Args:
            name: name of the image, used in the file name.
            crop: crop a region that reaches beyond the image.
        Returns:
            the file, which the caller removes, and a record of how it was made, (x, y) as MONAI Label counts.
        Raises:
            ISTEError: the image, the scale or the region is invalid; no file is left behind.
        """
        with self._lock, Slide(path, request.input_mpp) as slide:
            started = time.perf_counter()
            torch.set_num_threads(self.threads)
            network, provenance = self.network(request.device, request.input_blur)
            region = check_region(request.region, slide.size, crop)
            plan = plan_slide(slide, network, **vars(request.output_size), region=region)
            _check_extent(plan)
            target = _create_file(name, plan, request.suffix)
            try:
                job = SlideJob(slide, target, plan, network, provenance)
                _write(job)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            return target, {**_record(job), "seconds": round(time.perf_counter() - started, 3)}


def _check_extent(plan: SlidePlan) -> None:
    height, width = plan.region.height, plan.region.width
    if height * width > MAX_OUTPUT_PIXELS:
        raise ScaleError(
            f"a result of at most {MAX_OUTPUT_PIXELS:,} pixels",
            f"{width:,} x {height:,} (width x height)",
            "Ask for a smaller region or scale; whole slides are for monai-iste upscale.",
        )


def _create_file(name: str, plan: SlidePlan, suffix: str) -> Path:
    """Create an empty temporary file named after the image and the scale."""
    stem = re.sub(r"[^\w.-]+", "_", name)[:60]
    handle, file = tempfile.mkstemp(suffix, f"{stem}_x{math.sqrt(math.prod(plan.scale)):.4g}_")
    os.close(handle)
    return Path(file)


def _write(job: SlideJob) -> None:
    """Write the pixels: band by band, or for a pyramid from memory, which :data:`MAX_OUTPUT_PIXELS` bounds."""
    size, metadata = job.size, job.metadata
    if not slide_suffix(job.target):
        check_output(job.target, size, overwrite=True)
        with closing(_bands(job)) as bands:
            save_image(job.target, bands, size, mpp=metadata.mpp, icc=metadata.icc, overwrite=True)
        return
    check_slide_output(job.target, size, metadata, overwrite=True)
    pixels = np.concatenate(list(_bands(job)))
    with tempfile.TemporaryDirectory() as work:
        write_slide(job.target, lambda region: pixels[region.slices], size, metadata, work, overwrite=True)


def _bands(job: SlideJob) -> Generator[np.ndarray, None, None]:
    """Yield the result from top to bottom as (rows, W, 3) uint8."""
    plan = job.plan
    for band in plan.tiler.bands(job.slide.read, plan.size, job.network, plan.output, plan.region):
        yield to_array(band)


def _record(job: SlideJob) -> dict[str, Any]:
    plan = job.plan
    return {
        "image_size": _xy(plan.size),
        "full_size": _xy(plan.output),
        "result_location": [plan.region.left, plan.region.top],
        "result_size": _xy(job.size),
        "scale": _xy(plan.scale),
        "mpp": None if plan.output_mpp is None else _xy(plan.output_mpp),
        "provenance": job.metadata.provenance,
    }


def _xy(pair: tuple[Any, Any]) -> list[Any]:
    return [pair[1], pair[0]]
