"""Sampling of training pairs: coordinates, scattered or on a grid, and the colors there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from torch import Tensor

from monai_iste.coordinates import axis_centers, cell_size, pixel_centers
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.transforms.io import BACKENDS, plain_tensor


class RandSampleCoordinates(RandomizableTransform):
    """Draw random pixels of the high-resolution crop as (coordinate, color) pairs, with the cell of their scale.

    Implements the sampling of Sec. IV of Duan et al., arXiv:2401.15613 (48^2 RGB-coordinate pairs per crop).
    Differs from the paper: none.
    Not specified in the paper; our choice: pixels are distinct. A crop with fewer than ``num_points`` pixels is sampled
    with replacement, so that batches collate.

    Args:
        num_points: number of pairs Q; None returns all H * W pixels row by row, without randomness.
    Shape:
        image: (C, H, W); lr_size: (h, w); returns coord (Q, 2), colors (Q, C), cell (2,).
    Units: coordinates (y, x) of pixel centers in [-1, 1], float32; colors of the image's type and range; cell in half
        low-resolution pixels, float32 (:func:`monai_iste.coordinates.cell_size`).
    Raises:
        ConfigError: ``num_points`` is below 1.
        ShapeError: the image is empty or not of shape (C, H, W).

    Example:
        >>> coord, rgb, cell = RandSampleCoordinates(num_points=None)(torch.zeros(3, 1, 2), (1, 1))
        >>> coord.tolist(), rgb.shape, cell.tolist()
        ([[0.0, -0.5], [0.0, 0.5]], torch.Size([2, 3]), [2.0, 1.0])
    """

    backend = BACKENDS

    def __init__(self, num_points: int | None = 2304) -> None:
        super().__init__()
        if num_points is not None and num_points < 1:
            raise ConfigError("num_points of at least 1, or None", repr(num_points), "The paper draws 48 * 48 = 2304.")
        self.num_points = num_points
        self.index: Tensor | None = None

    def randomize(self, data: tuple[int, int]) -> None:
        """Draw :attr:`index`, row-major pixel indices of an image of size ``data`` = (H, W); None means all pixels."""
        if self.num_points is not None:
            count = data[0] * data[1]
            self.index = torch.from_numpy(self.R.choice(count, self.num_points, replace=self.num_points > count))

    def __call__(  # type: ignore[override]
        self, image: np.ndarray | Tensor, lr_size: tuple[int, int], randomize: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        if image.ndim != 3 or 0 in image.shape:
            raise ShapeError("an image of shape (C, H, W)", str(tuple(image.shape)), "Sample one image at a time.")
        size = (int(image.shape[1]), int(image.shape[2]))
        if randomize:
            self.randomize(size)
        coord, colors = pixel_centers(size), plain_tensor(image).flatten(1)
        if self.index is not None:
            coord, colors = coord[self.index], colors[:, self.index]
        return coord, colors.T.contiguous(), cell_size(lr_size, size)


class RandSampleCoordinatesd(Randomizable, MapTransform):
    """Dictionary version of :class:`RandSampleCoordinates`: stores ``coord`` and ``cell``, and replaces the image.

    Several keys of one size are sampled at the same pixels.

    Args:
        keys: high-resolution images; each is replaced by its colors (Q, 3).
        lr_key: low-resolution image, whose size determines the cell.
        num_points: see :class:`RandSampleCoordinates`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> data = {"image": torch.zeros(3, 4, 4), "label": torch.zeros(3, 8, 8)}
        >>> data = RandSampleCoordinatesd(num_points=16).set_random_state(0)(data)
        >>> data["label"].shape, data["coord"].shape, data["cell"].tolist()
        (torch.Size([16, 3]), torch.Size([16, 2]), [1.0, 1.0])
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection = "label",
        lr_key: str = "image",
        num_points: int | None = 2304,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.lr_key = lr_key
        self.sampler = RandSampleCoordinates(num_points)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandSampleCoordinatesd:
        super().set_random_state(seed, state)
        self.sampler.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        h, w = d[self.lr_key].shape[-2:]
        randomize = True
        for key in self.key_iterator(d):
            d["coord"], d[key], d["cell"] = self.sampler(d[key], (h, w), randomize)
            randomize = False
        return d


RandSampleCoordinatesD = RandSampleCoordinatesDict = RandSampleCoordinatesd


class RandSampleGrid(RandomizableTransform):
    """Draw random rows and random columns of the high-resolution crop, with the colors at all their crossings.

    A network with ``forward_grid`` computes a term of a row or a column once, so that as many points cost less than
    scattered ones (:class:`RandSampleCoordinates`). Every pixel of the crop is equally likely.

    Not specified in the paper; our choice: the paper draws scattered points. Rows and columns are distinct and in
    order; a crop with fewer is sampled with replacement, so that batches collate.

    Args:
        num_rows, num_columns: their numbers; 48 x 48 are as many points as the paper draws.
    Shape:
        image: (C, H, W); lr_size: (h, w); returns rows (R,), columns (S,), colors (R * S, C) row by row, cell (2,).
    Units: coordinates of pixel centers in [-1, 1], float32; colors of the image's type and range; cell in half
        low-resolution pixels, float32 (:func:`monai_iste.coordinates.cell_size`).
    Raises:
        ConfigError: a number is below 1.
        ShapeError: the image is empty or not of shape (C, H, W).

    Example:
        >>> rows, columns, rgb, cell = RandSampleGrid(1, 2)(torch.zeros(3, 1, 2), (1, 1))
        >>> rows.tolist(), columns.tolist(), rgb.shape, cell.tolist()
        ([0.0], [-0.5, 0.5], torch.Size([2, 3]), [2.0, 1.0])
    """

    backend = BACKENDS

    def __init__(self, num_rows: int = 48, num_columns: int = 48) -> None:
        super().__init__()
        if num_rows < 1 or num_columns < 1:
            raise ConfigError("num_rows and num_columns of at least 1", f"{num_rows}, {num_columns}", "Try 48 and 48.")
        self.num_rows, self.num_columns = num_rows, num_columns
        self.index = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)

    def randomize(self, data: tuple[int, int]) -> None:
        """Draw :attr:`index`, the rows and the columns of an image of size ``data`` = (H, W), in ascending order."""
        rows, columns = (
            torch.from_numpy(np.sort(self.R.choice(length, count, replace=count > length)))
            for length, count in zip(data, (self.num_rows, self.num_columns), strict=True)
        )
        self.index = rows, columns

    def __call__(  # type: ignore[override]
        self, image: np.ndarray | Tensor, lr_size: tuple[int, int], randomize: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if image.ndim != 3 or 0 in image.shape:
            raise ShapeError("an image of shape (C, H, W)", str(tuple(image.shape)), "Sample one image at a time.")
        size = (int(image.shape[1]), int(image.shape[2]))
        if randomize:
            self.randomize(size)
        rows, columns = self.index
        colors = plain_tensor(image)[:, rows][:, :, columns].flatten(1).T.contiguous()
        return axis_centers(size[0])[rows], axis_centers(size[1])[columns], colors, cell_size(lr_size, size)


class RandSampleGridd(Randomizable, MapTransform):
    """Dictionary version of :class:`RandSampleGrid`: stores ``rows``, ``columns`` and ``cell``, replaces the image.

    Several keys of one size are sampled at the same pixels. :class:`monai_iste.engines.PrepareGrids` and
    :class:`monai_iste.inferers.GridInferer` pass the batch to the network.

    Args:
        keys: high-resolution images; each is replaced by its colors (R * S, C).
        lr_key: low-resolution image, whose size determines the cell.
        num_rows, num_columns: see :class:`RandSampleGrid`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> data = {"image": torch.zeros(3, 4, 4), "label": torch.zeros(3, 8, 8)}
        >>> data = RandSampleGridd(num_rows=5, num_columns=3).set_random_state(0)(data)
        >>> data["label"].shape, data["rows"].shape, data["columns"].shape, data["cell"].tolist()
        (torch.Size([15, 3]), torch.Size([5]), torch.Size([3]), [1.0, 1.0])
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection = "label",
        lr_key: str = "image",
        num_rows: int = 48,
        num_columns: int = 48,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.lr_key = lr_key
        self.sampler = RandSampleGrid(num_rows, num_columns)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandSampleGridd:
        super().set_random_state(seed, state)
        self.sampler.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        h, w = d[self.lr_key].shape[-2:]
        randomize = True
        for key in self.key_iterator(d):
            d["rows"], d["columns"], d[key], d["cell"] = self.sampler(d[key], (h, w), randomize)
            randomize = False
        return d


RandSampleGridD = RandSampleGridDict = RandSampleGridd
