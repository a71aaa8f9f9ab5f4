"""Reader of PCam: patches of lymph nodes with or without metastasis, from its HDF5 files."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.csv_tables import GRADES, find_beside, look_up, read_records, require_folder
from monai_iste.errors import DataError, require_extra
from monai_iste.io.image_reader import read_rgb
from monai_iste.transforms.crop import tissue_fraction

#: Number of patches of each part.
PCAM_COUNTS = {"train": 262_144, "valid": 32_768, "test": 32_768}

#: Side of a patch in pixels, also in the substitute.
PCAM_SIDE = 96

_MAX_PATCHES = 2**22

_MAX_CHUNK_BYTES = 2**28  # HDF5 decompresses a whole chunk, and a file may declare any size

Split = Sequence[dict[str, Any]]


class PCamSplit(Sequence[dict[str, Any]]):
    """One part of PCam, read patch by patch from the official files; for use with ``monai.data.Dataset``.

    Each process opens the files itself, so that several data-loading processes work.

    Args:
        images: ``camelyonpatch_level_2_split_<part>_x.h5``, data set ``x``, (N, 96, 96, 3) uint8.
        labels: ``..._y.h5``, data set ``y``, (N, 1, 1, 1), 0 or 1.
        name: name of the part; patches are named ``<name>-000000`` and so on.
    Shape:
        items are ``{"image": (3, 96, 96) uint8, "label": 0 or 1, "name": str}``
    Units: 0 to 255; 0.97 um per pixel, 40x reduced to 10x.
    Raises:
        ConfigError: h5py is not installed.
        DataError: a file is missing, damaged, or has another layout.
    """

    def __init__(self, images: str | os.PathLike[str], labels: str | os.PathLike[str], name: str) -> None:
        self.name, self._path = name, Path(images)
        self._opened: tuple[int, Any] | None = None
        self._count = self._check_images()
        self._labels = _read_labels(Path(labels), self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # an IndexError ends iteration
        try:
            pixels = self._images()[number]
        except OSError as error:
            raise _damaged(self._path, f"patch {number}: {error}") from error
        image = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return {"image": image, "label": int(self._labels[number]), "name": f"{self.name}-{number:06d}"}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}  # an open file does not travel to another process

    def _images(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():  # a forked process must not share the position
            self._opened = os.getpid(), _open_h5(self._path, "x")
        return self._opened[1]

    def _check_images(self) -> int:
        with _open_h5(self._path, "x").file as file:
            data = file["x"]
            shape, chunk = data.shape, math.prod(data.chunks or (1,)) * data.dtype.itemsize
            if (
                data.dtype != np.uint8
                or shape[1:] != (PCAM_SIDE, PCAM_SIDE, 3)
                or not 0 < shape[0] <= _MAX_PATCHES
                or chunk > _MAX_CHUNK_BYTES
            ):
                raise DataError(
                    f"patches (N, {PCAM_SIDE}, {PCAM_SIDE}, 3) of uint8 in {self._path}",
                    f"{shape} of {data.dtype} in chunks of {chunk:,} bytes",
                    "Use PCam's own files.",
                )
            return int(shape[0])


def pcam_datalists(
    root: str | os.PathLike[str], complete: bool = True, crops: int = 8, seed: int = 0, side: int = PCAM_SIDE
) -> dict[str, Split]:
    """List PCam's patches with their labels, or those of a substitute made of GlaS tiles.

    Two layouts are supported, identified by their files:

    * ``camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5``: the official layout (extra ``experiments``);
    * ``labels.csv`` (columns file, label, split): a substitute. From each tile, up to ``crops`` squares of 96 pixels
      (or ``side``) are drawn with the seed. They do not overlap and are at least half tissue. Label 0 is benign, 1
      malignant. It is another task at another pixel size (tumor classification of tiles at 0.62 um per pixel), so
      results on it are not comparable with PCam's.

    Args:
        root: folder of these files; for the substitute, the parent folder works too.
        complete: whether the official files must hold :data:`PCAM_COUNTS`.
        crops: maximum number of patches per tile of the substitute.
        seed: seed of the substitute's patches.
        side: their side in pixels.
    Returns:
        "train", "valid" and "test": sequences of ``{"image": (3, 96, 96) uint8 array, "label": 0 or 1, "name": str}``.
    Raises:
        ConfigError: h5py is not installed.
        DataError: the folder has neither layout, or a file is missing or damaged.
    """
    folder = require_folder(root)
    table = next((file for file in (folder / "labels.csv", folder / "cls" / "labels.csv") if file.is_file()), None)
    if not list(folder.glob("camelyonpatch_*")) and table is not None:
        return _read_substitute(table, crops, seed, side)
    lists: dict[str, Split] = {}
    for part, expected in PCAM_COUNTS.items():
        x, y = (folder / f"camelyonpatch_level_2_split_{part}_{which}.h5" for which in "xy")
        lists[part] = PCamSplit(x, y, part)
        if complete and len(lists[part]) != expected:
            raise DataError(f"{expected:,} patches in {x}", f"{len(lists[part]):,}", "Download it again.")
    return lists


def _read_labels(path: Path, count: int) -> np.ndarray:
    with _open_h5(path, "y").file as file:
        data = file["y"]
        if data.shape != (count, 1, 1, 1) or data.dtype.kind not in "biu":
            raise DataError(
                f"one label for each of {count:,} patches, ({count}, 1, 1, 1), in {path}",
                f"{data.shape} of {data.dtype}",
                "Use both files of one part.",
            )
        try:
            labels: np.ndarray = np.asarray(data).reshape(count)
        except OSError as error:
            raise _damaged(path, str(error)) from error
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"labels 0 and 1 in {path}", f"values up to {labels.max()}", "Use PCam's own files.")
    return labels.astype(np.uint8)


def _open_h5(path: Path, key: str) -> Any:
    """Open an HDF5 file and return one of its data sets."""
    h5py = require_extra("h5py", "experiments")
    if not path.is_file():
        packed = path.with_name(f"{path.name}.gz").is_file()
        raise DataError(
            f"the file {path}",
            "its packed version" if packed else "none",
            f"Unpack it: gunzip {path.name}.gz." if packed else "Download all six files of PCam.",
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(file.get(key), h5py.Dataset):
        names = ", ".join(file)
        file.close()
        raise DataError(f"a data set {key!r} in {path}", names or "an empty file", "Use PCam's own files.")
    return file[key]


def _read_substitute(table: Path, crops: int, seed: int, side: int) -> dict[str, Split]:
    lists: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    parts = {"train": "train", "val": "valid", "test": "test"}
    for row in read_records(table, ("file", "label", "split")):
        label = GRADES.index(look_up(row["label"], dict.fromkeys(GRADES, row["label"]), table))
        name, image = Path(row["file"]).stem, read_rgb(find_beside(table, row["file"]))
        lists[look_up(row["split"], parts, table)] += [
            {"image": crop, "label": label, "name": f"{name}-{number}"}
            for number, crop in enumerate(_cut_crops(image, crops, f"{seed}:{name}", side))
        ]
    return dict(lists)


def _cut_crops(image: np.ndarray, count: int, seed: str, side: int = PCAM_SIDE) -> list[np.ndarray]:
    """Cut squares of a grid with enough tissue, in an order given by a hash, which no NumPy version changes."""
    rows, columns = (n // side for n in image.shape[1:])
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    cells.sort(key=lambda cell: hashlib.sha256(f"{seed}:{cell}".encode()).digest())
    squares = (image[:, row * side : (row + 1) * side, column * side : (column + 1) * side] for row, column in cells)
    return [np.ascontiguousarray(square) for square in squares if tissue_fraction(square) >= 0.5][:count]


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"readable HDF5 in {path}", f"a damaged file ({' '.join(reason.split())})", "Download it again, and unpack it."
    )
