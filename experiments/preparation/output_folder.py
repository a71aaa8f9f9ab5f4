"""Output folder of a preparation: images are written atomically, the manifest last.

Until it is finished, ``ROOT/.preparing.json`` identifies the preparation. The same preparation resumes after an
interruption. Another one is refused, and so is a folder with other contents.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from monai_iste.data.datasets import image_datalist
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.io.files import checksum, make_folder
from monai_iste.io.image_reader import image_size
from monai_iste.io.image_writer import save_image
from monai_iste.io.json_files import read_json, write_json
from monai_iste.io.pixel_size import Mpp
from monai_iste.metrics.manifest import fingerprint, manifest

#: Name of the manifest in a prepared folder; it exists once the preparation is finished.
MANIFEST = "dataset.json"

#: The folders of a prepared data set.
PARTS = ("train", "val", "test")

_UNFINISHED = ".preparing.json"

# What is used of a manifest.
_REPORT = {"job": {str: object}, "counts": {str: int}, "files": {str: str}}

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class PlannedImage(NamedTuple):
    """Image to write.

    Attributes:
        file: relative path, such as ``train/name.png``.
        size: (H, W).
        read: function that returns the pixels, (3, H, W) uint8.
        mpp: micrometers per pixel, (y, x), or None.
    """

    file: str
    size: tuple[int, int]
    read: Callable[[], np.ndarray]
    mpp: Mpp | None = None


class Plan(NamedTuple):
    """Images to write, and the manifest's entries about their origin."""

    images: Sequence[PlannedImage]
    about: dict[str, Any]


def fill_folder(
    root: Path, job: dict[str, Any], plan: Callable[[], AbstractContextManager[Plan]], quiet: bool = False
) -> dict[str, Any]:
    """Write a data set to a folder, or resume an interrupted preparation; a finished folder is not changed.

    Args:
        root: output folder.
        job: plain values that identify the preparation: name, seed, options, digest of the source.
        plan: context manager that creates the plan, the same for the same job; entered only if images are missing.
        quiet: whether to hide the progress bar.
    Returns:
        the manifest: name, seed, counts, the plan's ``about``, and the SHA-256 of each file.
    Raises:
        OutputError: the folder has other contents, cannot be written, or the disk is too small.
        DataError: an image cannot be read, or its size differs from the plan.
    """
    done = _begin(root, job)
    if done is not None:
        return done
    with plan() as (images, about):
        missing = [image for image in images if not _is_complete(root / image.file, image.size)]
        _check_place(root, images, missing)
        write_json(root / _UNFINISHED, job)
        _write_images(root, missing, len(images), quiet)
        report = _report(root, job, images, about, quiet)
    write_json(root / MANIFEST, report)
    for left in (root / _UNFINISHED, *(file for part in PARTS for file in (root / part).glob(".*.part"))):
        with suppress(OSError):  # partial files of a killed process
            left.unlink()
    return report


def check_counts(counts: Sequence[int]) -> dict[str, int]:
    """Check the numbers of images and return them by part.

    Raises:
        ConfigError: these are not three positive numbers.

    Example:
        >>> check_counts((320, 40, 40))
        {'train': 320, 'val': 40, 'test': 40}
    """
    if len(counts) != len(PARTS) or min(counts) < 1:
        raise ConfigError("counts of train, val and test, each at least 1", str(tuple(counts)), "Say 320,40,40.")
    return dict(zip(PARTS, counts, strict=True))


def hash_order(names: Sequence[str], seed: int) -> list[int]:
    """Return the indices of names in a pseudo-random order, by a hash of seed and name, the same on every machine.

    Example:
        >>> hash_order(["a", "b", "c"], 0), hash_order(["c", "b", "a"], 0)
        ([0, 2, 1], [2, 0, 1])
    """
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}:{names[i]}".encode()).hexdigest())


def assign_folders(names: Sequence[str], counts: dict[str, int], seed: int) -> list[str]:
    """Assign names to parts in :func:`hash_order`: the first to train, the next to val, and so on.

    Example:
        >>> assign_folders(["a", "b", "c"], {"train": 1, "val": 1, "test": 1}, seed=0)
        ['train', 'test', 'val']
    """
    folders = [part for part, count in counts.items() for _ in range(count)]
    found = dict(zip(hash_order(names, seed), folders, strict=True))
    return [found[i] for i in range(len(names))]


def source_digest(root: Path, files: Sequence[Path]) -> str:
    """Hash the names and sizes of the source's files; it identifies the source without revealing names."""
    lines = sorted(f"{file.relative_to(root).as_posix()} {file.stat().st_size}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# --- the steps --------------------------------------------------------------------------------------------------------


def _begin(root: Path, job: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest if the job is finished, else None; raise if the folder belongs to something else."""
    if root.exists() and not root.is_dir():
        raise OutputError("a folder to prepare the data set in", f"the file {root}", "Name another.")
    if (root / MANIFEST).is_file():
        done = _read_json(root / MANIFEST, _REPORT)
        if done["job"] != job:
            raise OutputError(
                f"the same data set in {root}", "a data set of other sources or options", "Name another folder."
            )
        if all((root / file).is_file() for file in done["files"]):
            return done
        return None  # files that were removed are written again
    if not root.exists() or not any(root.iterdir()):
        return None
    if not (root / _UNFINISHED).exists():
        raise OutputError("an empty folder", f"{root}, which holds something else", "Name another.")
    visible = any(file.is_file() and not file.name.startswith(".") for file in root.rglob("*"))
    if visible and _read_json(root / _UNFINISHED, {str: object}) != job:
        raise OutputError(
            f"the preparation that was started in {root}",
            "other sources or options",
            "Repeat its command to resume, or name another folder.",
        )
    return None


def _is_complete(path: Path, size: tuple[int, int]) -> bool:
    """Return True if the file exists, is complete and has the planned size."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(_PNG_END), 2)
            return file.read() == _PNG_END and image_size(path) == size
    except (OSError, DataError):
        return False


def _check_place(root: Path, images: Sequence[PlannedImage], missing: Sequence[PlannedImage]) -> None:
    """Check contents and free space of the folder before any image is written."""
    planned = {image.file for image in images}
    for part in PARTS:
        for file in (root / part).rglob("*"):
            if not file.name.startswith(".") and file.relative_to(root).as_posix() not in planned:
                raise OutputError(f"only files of the data set in {root / part}", file.name, "Move it elsewhere.")
    for part in PARTS:
        make_folder(root / part)
    # Uncompressed size; PNG takes less, by an unknown factor.
    needed, free = sum(3 * math.prod(image.size) for image in missing), shutil.disk_usage(root).free
    if needed > free:
        raise OutputError(
            f"up to {needed / 1e9:.3g} GB of free space in {root}", f"{free / 1e9:.3g} GB", "Free disk space."
        )


def _write_images(root: Path, missing: Sequence[PlannedImage], count: int, quiet: bool) -> None:
    bar = tqdm(missing, desc="preparing", unit="image", total=count, initial=count - len(missing), disable=quiet)
    for image in bar:
        pixels = image.read()
        if pixels.shape != (3, *image.size):
            raise DataError(
                f"{image.size[0]} x {image.size[1]} pixels (H x W) for {image.file}",
                f"{pixels.shape}",
                "Its source changed during the preparation; keep it unchanged, and start again.",
            )
        band = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        save_image(root / image.file, [band], image.size, mpp=image.mpp, overwrite=True)


def _report(
    root: Path, job: dict[str, Any], images: Sequence[PlannedImage], about: dict[str, Any], quiet: bool
) -> dict[str, Any]:
    files = {image.file: checksum(root / image.file) for image in tqdm(images, desc="checksums", disable=quiet)}
    origin = manifest(about["protocol"], seed=job["seed"])
    return {
        "name": job["name"],
        "seed": job["seed"],
        "counts": {part: sum(image.file.startswith(f"{part}/") for image in images) for part in PARTS},
        **about,
        "fingerprints": {part: fingerprint(image_datalist(root / part)) for part in PARTS},
        "versions": origin["versions"],
        "date": origin["date"],
        "job": job,
        "files": files,
    }


def _read_json(path: Path, shape: Any) -> dict[str, Any]:
    """Read what a preparation wrote; anything else is a folder that belongs to something else."""
    try:
        found: dict[str, Any] = read_json(path, shape)
    except DataError as error:
        raise OutputError(f"a manifest in {path}", "something else", "Name another folder, or restore it.") from error
    return found
