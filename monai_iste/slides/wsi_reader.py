"""Reader for MONAI's slide datasets that shows slides as if scanned at another pixel size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, PathLike
from monai.data import BaseWSIReader
from monai.utils import ensure_tuple
from torch import Tensor, nn

from monai_iste.errors import ConfigError, DataError, ScaleError
from monai_iste.functional import to_array
from monai_iste.inferers import Region, Tiler
from monai_iste.inferers.output_size import MAX_OUTPUT_PIXELS, OutputSize, Size
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.pixel_size import MPP_KEY, MPP_SPACING_KEY, Mpp, mpp_pair
from monai_iste.io.pixels import SLIDE_ENDINGS
from monai_iste.networks.grid_sampling import query_grid
from monai_iste.networks.runtime import resolve_network
from monai_iste.slides.reader import Slide
from monai_iste.slides.source import Source

_SUFFIXES = [ending.removeprefix(".") for ending in SLIDE_ENDINGS] + ["tif", "tiff", "dcm", "png", "jpg", "jpeg"]
_BACKGROUND = 255  # value of pixels beyond the slide
_SMALLEST = 32  # pixels along the shorter side of the coarsest level, unless the levels are given
_POWER_UM = 10.0  # an objective's power by the usual convention: 40x at 0.25 um, 20x at 0.5


@dataclass(frozen=True)
class VirtualSlide:
    """Slide as :class:`SuperResolvedWSIReader` shows it.

    It holds no open file, so that data loaders may copy thousands of them into their workers.

    Attributes:
        path: file of the slide.
        size, mpp: (h, w) and micrometers per pixel (y, x) of the slide itself.
        levels: (H, W) of the virtual levels.
        downsamples: factor by which each level is coarser than level 0.
    """

    path: Path
    size: Size
    mpp: Mpp
    levels: tuple[Size, ...]
    downsamples: tuple[float, ...]


class SuperResolvedWSIReader(BaseWSIReader):
    """Read slides as if they had been scanned at ``mpp``, so that a pipeline for 40x slides accepts those at 10x.

    It replaces the reader in MONAI's ``PatchWSIDataset``, ``SlidingPatchWSIDataset``,
    ``MaskedPatchWSIDataset``, ``WSISlidingWindowSplitter`` and ``LoadImage``. Sizes, locations, levels and pixel sizes
    are those of the virtual slide: level 0 has ``mpp``, each further level is coarser by two. A level that is finer
    than the slide is computed by the network. The others are reduced from the slide's own levels, so that masks and
    thumbnails cost no more than usual. An axis whose pixel size is within 1 % of ``mpp`` is left alone.

    The value of a pixel is that of the whole super-resolved slide (:class:`~monai_iste.inferers.Tiler`) and does not
    depend on the patch. Overlapping patches agree exactly, and adjacent ones show no seam. A patch needs all windows
    that it touches, each 192 slide pixels wide. Windows are therefore cached, which helps if neighboring patches are
    read one after another.

    Pixels beyond the slide are white, and transparent in mode "RGBA".

    Args:
        mpp: pixel size of level 0, one number or (y, x).
        model: a network, which is put into evaluation mode, or the name of a preset with released weights (default:
            ``iste_light2``).
        source_mpp: pixel size of the slides, instead of what their files state.
        downsamples: factor of each level relative to level 0, if a pipeline expects other levels than powers of two;
            ``(1, 4, 16, 32)`` is usual for Aperio.
        network_device: where the network runs; default: where it is, or for a preset the GPU if there is one. Data
            loaders with worker processes need ``"cpu"``.
        precision: ``"fp32"`` or ``"bf16"``.
        cache_mb: mebibytes of windows to keep, in every process; one takes about ``0.5 * scale**2``.
        kwargs: ``level``, ``power``, ``channel_dim``, ``dtype``, ``device``, ``mode`` and the tolerances, as for
            :class:`monai.data.BaseWSIReader`. An objective's power is taken as 10 / mpp.
    Units: micrometers per pixel; patches from 0 to 255, for every type.
    Raises:
        ConfigError: a pixel size, level or argument is invalid.
        DataError: the file is not a slide, or does not state its pixel size.
        ScaleError: a patch has more than 500,000,000 pixels.

    Example:
        >>> import tempfile
        >>> from monai.data import PatchWSIDataset
        >>> from PIL import Image
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> file = os.path.join(tempfile.mkdtemp(), "10x.png")
        >>> Image.new("RGB", (64, 80)).save(file)
        >>> reader = SuperResolvedWSIReader(0.25, source_mpp=1.0, model=network)
        >>> data = [{"image": file, "location": (100, 90), "label": 0}]
        >>> patch = PatchWSIDataset(data, patch_size=64, reader=reader)[0]["image"]
        >>> reader.get_size(reader.read(file), 0), patch.shape, patch.meta["mpp"]
        ((320, 256), torch.Size([3, 64, 64]), (0.25, 0.25))
    """

    backend = "monai_iste"

    def __init__(
        self,
        mpp: float | tuple[float, float],
        model: nn.Module | str | None = None,
        source_mpp: float | tuple[float, float] | None = None,
        downsamples: Sequence[float] | None = None,
        network_device: torch.device | str | None = None,
        precision: str = "fp32",
        cache_mb: float = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.kwargs:
            raise ConfigError("arguments that the reader has", ", ".join(self.kwargs), "Check the spelling.")
        self.supported_suffixes = list(_SUFFIXES)
        self.target = mpp_pair(mpp)
        self.source_mpp = None if source_mpp is None else mpp_pair(source_mpp)
        self.downsamples = None if downsamples is None else _ascending(downsamples)
        self.model, self.network_device, self.precision = model, network_device, precision
        self.cache = ByteCache(int(cache_mb * 2**20))
        self._network: nn.Module | None = None

    def read(self, data: Sequence[PathLike] | PathLike | np.ndarray, **kwargs: Any) -> Any:
        """Open the virtual slide of a file, or a list of those of several files."""
        slides = [self._open(Path(str(path))) for path in ensure_tuple(data)]
        return slides if len(slides) > 1 else slides[0]

    def _open(self, path: Path) -> VirtualSlide:
        slide = _opened(path)
        size, mpp = slide.size, self.source_mpp or slide.mpp
        if mpp is None:
            raise DataError(
                f"the pixel size of {path} in its file", slide.pixel_size.remark, "Give the reader source_mpp=."
            )
        full = OutputSize(mpp=self.target).resolve(size, mpp)
        downsamples = self.downsamples or _powers_of_two(full)
        levels = tuple((max(1, round(full[0] / d)), max(1, round(full[1] / d))) for d in downsamples)
        return VirtualSlide(path, size, mpp, levels, downsamples)

    def get_level_count(self, wsi: VirtualSlide) -> int:
        return len(wsi.levels)

    def get_size(self, wsi: VirtualSlide, level: int) -> tuple[int, int]:
        return wsi.levels[level]

    def get_downsample_ratio(self, wsi: VirtualSlide, level: int) -> float:
        return wsi.downsamples[level]

    def get_file_path(self, wsi: VirtualSlide) -> str:
        return os.path.abspath(wsi.path)

    def get_mpp(self, wsi: VirtualSlide, level: int) -> tuple[float, float]:
        (h, w), (height, width) = wsi.size, wsi.levels[level]
        return wsi.mpp[0] * h / height, wsi.mpp[1] * w / width

    def get_power(self, wsi: VirtualSlide, level: int) -> float:
        return 2 * _POWER_UM / sum(self.get_mpp(wsi, level))

    def _get_metadata(self, wsi: VirtualSlide, *args: Any, **kwargs: Any) -> dict[str, Any]:
        level = kwargs["level"] if "level" in kwargs else args[-1]
        return {
            **super()._get_metadata(wsi, *args, **kwargs),
            MPP_KEY: self.get_mpp(wsi, level),
            MPP_SPACING_KEY: (1.0, 1.0),
        }

    def _get_patch(
        self,
        wsi: VirtualSlide,
        location: tuple[int, int],
        size: tuple[int, int],
        level: int,
        dtype: DtypeLike,
        mode: str,
    ) -> np.ndarray:
        height, width = (int(n) for n in size)
        if height * width > MAX_OUTPUT_PIXELS:
            raise ScaleError(f"a patch of at most {MAX_OUTPUT_PIXELS:,} pixels", f"{height} x {width}", "Read parts.")
        top, left = (round(float(n) / wsi.downsamples[level]) for n in location)
        rows, columns = (
            slice(min(max(0, -first), count), max(0, min(count, whole - first)))
            for first, count, whole in zip((top, left), (height, width), wsi.levels[level], strict=True)
        )
        patch = np.full((height, width, 4 if mode == "RGBA" else 3), _BACKGROUND, np.uint8)
        patch[..., 3:] = 0
        if rows.start < rows.stop and columns.start < columns.stop:
            region = Region(
                top + rows.start, left + columns.start, rows.stop - rows.start, columns.stop - columns.start
            )
            patch[rows, columns, :3] = self._pixels(wsi, wsi.levels[level], region)
            patch[rows, columns, 3:] = 255
        return np.moveaxis(patch, 2, self.channel_dim).astype(dtype, order="C")

    def _pixels(self, wsi: VirtualSlide, full: Size, region: Region) -> np.ndarray:
        """Read a region of the slide resampled to ``full``, inside it: (height, width, 3), uint8."""
        # An axis along which the slide is finer than that is reduced first.
        base = (min(wsi.size[0], full[0]), min(wsi.size[1], full[1]))
        slide = _opened(wsi.path)
        try:
            if base == full:
                return slide.read_at(full, region)
            bands = Tiler().bands(partial(slide.read_at, base), base, self._cached_network(), full, region)
            return np.concatenate([to_array(band) for band in bands])
        except DataError:  # after which a slide reads nothing more until it is opened again
            _open_in.cache_clear()
            raise

    def _cached_network(self) -> nn.Module:
        """Load the network at the first patch that needs it, in the process that needs it."""
        if self._network is None:
            network = resolve_network(self.model, self.network_device, self.precision)
            self._network = _CachingNetwork(network, self.cache)
        return self._network


def _opened(path: Path) -> Slide:
    """Open a slide once per process; a file that was replaced is opened again."""
    return _open_in(os.getpid(), path, Source(path).version)


@lru_cache(maxsize=4)
def _open_in(process: int, path: Path, version: str) -> Slide:
    return Slide(path)


def _ascending(downsamples: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(value) for value in downsamples)
    if values[:1] != (1.0,) or any(a >= b for a, b in pairwise(values)):
        raise ConfigError("downsamples that begin with 1 and grow", repr(downsamples), "Such as (1, 4, 16, 32).")
    return values


def _powers_of_two(size: Size) -> tuple[float, ...]:
    values = [1.0]
    while min(size) >= 2 * values[-1] * _SMALLEST:
        values.append(2 * values[-1])
    return tuple(values)


class _CachingNetwork(nn.Module):
    """Network that caches its outputs by the content of its inputs.

    Windows of different slides need no names, and empty background is computed once.
    """

    def __init__(self, network: nn.Module, cache: ByteCache) -> None:
        super().__init__()
        self.network, self.cache = network, cache

    def forward_grid(self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (image, rows, columns, cell):
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().cpu().numpy().data)
        output: Tensor | None = self.cache.get(digest.digest())
        if output is None:
            output = query_grid(self.network, image, rows, columns, cell).cpu()
            self.cache.put(digest.digest(), output)
        return output.to(image.device)
