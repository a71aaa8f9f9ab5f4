"""What a number was measured with: the manifest beside every table, enough to measure it again elsewhere.

It names files, never folders: a manifest can be published with its results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import monai_iste
from monai_iste.bundle import running_workflow
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
) -> dict[str, Any]:
    """Versions, protocol, seed, weights, images, hardware and date, as plain values for ``metrics.json``.

    In a bundle's run the configuration's values are added under ``config``, as they were resolved for that run.

    Args:
        protocol: a key of :data:`monai_iste.metrics.PROTOCOLS`.
        checkpoint: the file of the weights that were scored; None for networks without any.
        seed: of the training; None where nothing is drawn at random, as in an evaluation.
        dataset: the images that were scored, as a data list or its :func:`fingerprint`.
        device: where the network ran.
        precision: the number format that it ran in.
    Raises:
        ConfigError: there is no such protocol. DataError: an image of the data list cannot be read.

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
    workflow = running_workflow()
    if workflow is not None:
        report["config"] = _plain_values(workflow.parser.ref_resolver.resolved_content)
    return report


def fingerprint(datalist: Sequence[dict]) -> dict[str, Any]:
    """How many images a data list holds, and a hash over their names and sizes in pixels, whatever their order.

    Two runs with one fingerprint had the same files; that no pixel was edited in between, it does not tell.

    Example:
        >>> fingerprint([{"image": np.zeros((3, 4, 5), np.uint8), "name": "a"}])["count"]
        1
    """
    lines = sorted("{} {}x{}".format(item["name"], *_size(item["image"])) for item in datalist)
    return {"count": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


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
    """The processor's name; Python itself knows only its architecture on Linux."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain_values(resolved: dict[str, Any]) -> dict[str, Any]:
    """The top-level settings among everything a configuration resolved to; of a path, the last part alone."""
    settings = {key: value for key, value in resolved.items() if key.isidentifier() and key != "bundle_root"}
    return {
        key: Path(value).name if isinstance(value, str) and not {os.sep, os.altsep}.isdisjoint(value) else value
        for key, value in sorted(settings.items())
        if _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, (int, float)) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))
