"""Manifest of a measurement: the conditions that are needed to repeat it elsewhere.

It contains names of files, never of folders, so that it can be published with its results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import monai_iste
from monai_iste.errors import DataError
from monai_iste.io.files import checksum
from monai_iste.io.image_reader import image_size
from monai_iste.metrics import get_protocol

_PACKAGES = ("torch", "monai", "pillow", "scikit-image", "numpy")


def manifest(
    protocol: str,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    dataset: Sequence[dict] | Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect versions, protocol, seed, weights, images, hardware and date, as plain values for ``metrics.json``.

    Args:
        protocol: a key of :data:`monai_iste.metrics.PROTOCOLS`.
        checkpoint: file of the evaluated weights; None for a network without weights.
        seed: seed of the training; None if nothing is random, as in an evaluation.
        dataset: evaluated images, as a data list or its :func:`fingerprint`.
        device: device of the network.
        precision: number format of the network.
        config: settings of the run (:func:`monai_iste.bundle.resolved_settings`); left out if None.
    Raises:
        ConfigError: the protocol is unknown.
        DataError: an image of the data list cannot be read.

    Example:
        >>> manifest("iste-rgb")["protocol"]
        {'name': 'iste-rgb', 'degradation': 'blur_bicubic', 'shave': 8, 'channels': 'rgb'}
    """
    report: dict[str, Any] = {
        "versions": _versions(),
        "protocol": dataclasses.asdict(get_protocol(protocol)),
        "seed": seed,
        "checkpoint": None if checkpoint is None else {"file": Path(checkpoint).name, "sha256": checksum(checkpoint)},
        "dataset": fingerprint(dataset) if isinstance(dataset, Sequence) else dataset,
        "hardware": _hardware(torch.device(device)),
        "precision": precision,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return report if config is None else {**report, "config": dict(config)}


def fingerprint(datalist: Sequence[dict]) -> dict[str, Any]:
    """Count the images of a data list, and hash their names and sizes in pixels, independent of their order.

    Equal fingerprints mean equal names and sizes; an edit of pixel values is not detected.

    Example:
        >>> fingerprint([{"image": np.zeros((3, 4, 5), np.uint8), "name": "a"}])["count"]
        1
    """
    lines = sorted("{} {}x{}".format(item["name"], *_size(item["image"])) for item in datalist)
    return {"count": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


def content_hash(datalist: Sequence[dict]) -> str:
    """Hash the names and the contents of all images of a data list, independent of their order and their folder.

    Raises:
        DataError: a file cannot be read.

    Example:
        >>> black, white = np.zeros((3, 4, 5), np.uint8), np.full((3, 4, 5), 255, np.uint8)
        >>> content_hash([{"image": black, "name": "a"}]) == content_hash([{"image": white, "name": "a"}])
        False
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(_digest, (item["image"] for item in datalist)))
    lines = sorted(f"{item['name']} {digest}" for item, digest in zip(datalist, digests, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest(image: Any) -> str:
    if isinstance(image, (np.ndarray, torch.Tensor)):
        pixels = np.ascontiguousarray(image)
        return hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()).hexdigest()
    try:
        return checksum(image)
    except OSError as error:
        raise DataError("a file that can be read", f"{image} ({error.strerror})", "Check the path.") from error


def _size(image: Any) -> tuple[int, int]:
    if isinstance(image, (np.ndarray, torch.Tensor)):
        return image.shape[-2], image.shape[-1]
    return image_size(image)


def _versions() -> dict[str, str | None]:
    """Return the versions as installed; None for a package that is imported from a plain folder.

    Torch states its own version, such as ``2.13.0+cu130``: the metadata of a wheel leaves out the build.
    """
    found: dict[str, str | None] = {"monai_iste": monai_iste.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"torch": str(torch.__version__)}


def _hardware(device: torch.device) -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "cuda": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _cpu_model() -> str:
    """Return the name of the processor; on Linux, ``platform`` only knows the architecture."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
