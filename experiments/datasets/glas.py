"""Reader of GlaS, the gland segmentation challenge of MICCAI 2015."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.datasets.csv_tables import GRADES, find_beside, look_up, read_records, read_rows, require_folder
from monai_iste.errors import DataError
from monai_iste.io.image_reader import image_size
from monai_iste.io.orientation import page_orientation, upright
from monai_iste.io.pixel_size import is_tiff
from monai_iste.io.tiff_pages import open_tiff
from monai_iste.io.whole_image import image_orientation

#: Number of images of each part of the challenge.
GLAS_COUNTS = {"train": 85, "testA": 60, "testB": 20}


def glas_datalists(root: str | os.PathLike[str], complete: bool = True) -> dict[str, list[dict[str, Any]]]:
    """List the images of GlaS with their gland masks, by the challenge's parts.

    Two layouts are supported, identified by a file:

    * ``Grade.csv``: the official layout, ``train_1.bmp`` beside ``train_1_anno.bmp``, and likewise testA and testB;
    * ``index.csv`` (columns image, mask, split): a substitute, the same tiles in another split. Its train and val are
      merged, with ``"validation": True`` in the items of val, its test is used as testA, and testB is empty. Results
      on it are not comparable with the challenge's.

    Patient identifiers are not read.

    Args:
        root: folder of that file; for the substitute, the parent folder works too.
        complete: whether the official layout must hold all of :data:`GLAS_COUNTS`.
    Returns:
        "train", "testA" and "testB": per image ``{"image": path, "mask": path, "name": str}`` in numerical order, and
        ``"grade"``, benign or malignant, where it is known.
    Raises:
        DataError: the folder has neither layout, a file is missing or unreadable, or a mask and its image differ in
            size.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("train_2", "train_10", "testA_1", "testB_1"):
        ...     for ending in ("", "_anno"):
        ...         Image.new("L", (5, 4)).save(folder / f"{name}{ending}.bmp")
        >>> _ = (folder / "Grade.csv").write_text("name,patient ID, grade (GlaS)\\ntrain_2,1, benign\\n")
        >>> [(item["name"], item.get("grade")) for item in glas_datalists(folder, complete=False)["train"]]
        [('train_2', 'benign'), ('train_10', None)]
    """
    folder = require_folder(root)
    index = next((file for file in (folder / "index.csv", folder / "glas" / "index.csv") if file.is_file()), None)
    if (folder / "Grade.csv").is_file():
        lists = _read_official(folder, complete)
    elif index is not None:
        lists = _read_substitute(index)
    else:
        raise DataError(
            f"GlaS in {folder}", "neither Grade.csv nor index.csv", "Name the folder that train_1.bmp is in."
        )
    for item in (item for part in lists.values() for item in part):
        size, of_mask = image_size(item["image"]), image_size(item["mask"])
        if size != of_mask:
            raise DataError(
                f"a mask of {_size(size)}, the size of its image, in {item['mask']}",
                _size(of_mask),
                "Copy both from the same release.",
            )
    return lists


def read_instances(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label map, turned upright as its image is: 0 is background, every other value one object.

    Shape:
        returns (H, W), int32.
    Raises:
        DataError: the file is missing, damaged, or not a single-channel integer image.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8)).save(file)
        >>> read_instances(file).tolist()
        [[0, 1], [2, 2]]
    """
    image_size(path)  # raises DataError if the file is not an image, or too large to decode
    try:
        if is_tiff(Path(path)):  # Pillow distorts those that are stored turned
            with open_tiff(Path(path)) as tiff:
                page = tiff.pages.first
                pixels, orientation = page.asarray(), page_orientation(page)
                mode = "L" if pixels.ndim == 2 and pixels.dtype.kind in "bui" else f"{pixels.shape} {pixels.dtype}"
        else:
            with Image.open(path, formats=("PNG", "BMP")) as image:
                orientation = image_orientation(image)
                mode, pixels = image.mode, np.asarray(image)  # a palette image gives its indices
    except Exception as error:  # each decoder has its own: zlib.error, TiffFileError, imagecodecs' errors ...
        raise DataError(
            f"a readable mask in {path}", " ".join(f"a damaged file ({error})".split()), "Copy it again."
        ) from error
    if mode not in ("1", "L", "P", "I", "I;16"):
        raise DataError(f"one channel of object numbers in {path}", f"an image of mode {mode}", "Export it as 8-bit.")
    return upright(pixels, orientation).astype(np.int32)


def _read_official(folder: Path, complete: bool) -> dict[str, list[dict[str, Any]]]:
    rows = ([cell.strip() for cell in row] for row in read_rows(folder / "Grade.csv"))
    grades = {row[0]: row[2] for row in rows if len(row) > 2 and row[2] in GRADES}
    lists: dict[str, list[dict[str, Any]]] = {}
    for part, expected in GLAS_COUNTS.items():
        numbers = sorted(
            int(number)
            for file in folder.glob(f"{part}_*.bmp")
            if (number := file.stem.removeprefix(f"{part}_")).isdecimal()
        )
        if not numbers or (complete and len(numbers) != expected):
            raise DataError(
                f"{expected} images {part}_1.bmp, {part}_2.bmp ... in {folder}", f"{len(numbers)}", "Unpack it again."
            )
        lists[part] = []
        for name in (f"{part}_{number}" for number in numbers):
            item = {"image": str(folder / f"{name}.bmp"), "mask": str(folder / f"{name}_anno.bmp"), "name": name}
            lists[part].append(item | ({"grade": grades[name]} if name in grades else {}))
    return lists


def _read_substitute(index: Path) -> dict[str, list[dict[str, Any]]]:
    lists: dict[str, list[dict[str, Any]]] = {"train": [], "testA": [], "testB": []}
    parts = {"train": "train", "val": "train", "test": "testA"}
    for row in read_records(index, ("image", "mask", "split")):
        item = {key: find_beside(index, row[key]) for key in ("image", "mask")}
        named: dict[str, Any] = {**item, "name": Path(row["image"]).stem}
        of_val = {"validation": True} if row["split"] == "val" else {}
        lists[look_up(row["split"], parts, index)].append(named | of_val)
    return lists


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} (H x W)"
