"""Job of ``monai-iste upscale`` for one plain image, in one go."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from monai_iste.errors import DataError, OutputError
from monai_iste.functional import to_array
from monai_iste.inferers import Region, Tiler
from monai_iste.inferers.output_size import Size
from monai_iste.io.files import checksum, make_folder
from monai_iste.io.image_reader import ImageInfo, image_size
from monai_iste.io.image_writer import save_image
from monai_iste.io.pixel_size import Mpp
from monai_iste.io.pixels import open_pixels
from monai_iste.io.seal import Fields, read_seal
from monai_iste.io.stated_pixel_size import describe_mpp

_FORMAT = 1  # raised when the same job gives other pixels


@dataclass
class ImageJob:
    """Super-resolution of one image in memory, to ``output`` (H, W).

    The result has a seal, by which it is known to be whole and to be that of this image, network and size.

    Args:
        network_digest: :func:`~monai_iste.networks.weights.network_digest` and precision of the network.
        resume: whether an existing result of this job counts as complete.
        progress: called with a number of output pixels when they are computed.
    """

    source: Path
    target: Path
    info: ImageInfo
    output: Size
    network: nn.Module
    network_digest: str
    overwrite: bool
    resume: bool
    progress: Callable[[int], Any] = lambda pixels: None

    @property
    def mpp(self) -> Mpp | None:
        """Micrometers per pixel of the result, (y, x), if known."""
        (h, w), (height, width), mpp = self.info.size, self.output, self.info.mpp
        return None if mpp is None else (mpp[0] * h / height, mpp[1] * w / width)

    @property
    def seal(self) -> Fields:
        """Fields of the result's seal; the whole source is read."""
        mpp = None if self.mpp is None else list(self.mpp)
        values = [_FORMAT, checksum(self.source), list(self.output), mpp, self.network_digest]
        return {"job": hashlib.sha256(json.dumps(values).encode()).hexdigest(), "compression": "none"}

    def is_complete(self) -> bool:
        """Check whether the result exists, whole.

        Raises:
            OutputError: a file of another size or job, or no image, has its name.
        """
        if self.overwrite or not self.resume or not os.path.lexists(self.target):  # also where the name is too long
            return False
        try:
            found = image_size(self.target)
        except DataError:
            found = None
        if found != self.output:
            self._refuse("another file" if found is None else f"{found[0]} x {found[1]}")
        seal = read_seal(self.target)
        if seal is None:
            self._refuse("another file, or one that is not complete")
        elif seal != self.seal:
            self._refuse("that of another image, network or blur")
        return True

    def _refuse(self, found: str) -> None:
        height, width = self.output
        raise OutputError(
            f"{self.target} to be absent or this job's result of {height} x {width} pixels (H x W)",
            found,
            "Add --overwrite, or choose another folder.",
        )

    def estimate(self) -> dict[str, Any]:
        """Return nothing: images are not estimated."""
        return {}

    def run(self, warn: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """Compute and write the result; ``warn(read, size, mpp)`` inspects the source and adds to the report."""
        make_folder(self.target.parent)
        seal = self.seal
        with closing(open_pixels(self.source)) as pixels:
            if pixels.levels[0] != self.info.size:
                raise DataError(f"{self.source} as it was checked", "an image of another size", "Run it again.")

            def read(part: Region) -> np.ndarray:
                return np.array(pixels.read(0, (part.top, part.left), (part.height, part.width)), order="C")  # writable

            added = warn(read, self.info.size, self.info.mpp)
            with closing(self._bands(read)) as bands:
                icc, overwrite = self.info.icc, self.overwrite
                save_image(self.target, bands, self.output, mpp=self.mpp, icc=icc, overwrite=overwrite, seal=seal)
        return added

    def _bands(self, read: Callable[[Region], np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Yield the result from top to bottom as (rows, W, 3) uint8."""
        for band in Tiler().bands(read, self.info.size, self.network, self.output):
            yield to_array(band)
            self.progress(band.shape[1] * band.shape[2])

    def record(self) -> dict[str, Any]:
        """Return the job as plain values."""
        return {
            "input": str(self.source),
            "output": str(self.target),
            "input_size": self.info.size,
            "output_size": self.output,
            "scale": [n / m for n, m in zip(self.output, self.info.size, strict=True)],
            "mpp": self.mpp,
            "input_pixel_size": self.info.pixel_size._asdict(),
            "note": self.info.note,
        }

    def __str__(self) -> str:
        (h, w), (height, width), mpp = self.info.size, self.output, self.mpp
        text = f"{self.target}: {h} x {w} -> {height} x {width} (H x W, x{math.sqrt(height * width / (h * w)):.4g}"
        return f"{text}), pixel size: {self.info.pixel_size.remark}" if mpp is None else f"{text}, {describe_mpp(mpp)})"
