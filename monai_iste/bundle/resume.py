"""Point from which a training resumes: the latest intact checkpoint of a run with the same settings."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from monai_iste.bundle.output_folder import checkpoints, epoch_of, put_aside
from monai_iste.bundle.runs import is_main, running_workflow, saved_config
from monai_iste.errors import CheckpointError, ConfigError
from monai_iste.io.json_files import write_json

# Settings that may change between the parts of one run.
_FREE_TO_CHANGE = {"max_epochs", "num_workers", "cache_bytes", "resume", "output_dir", "device", "bundle_root"}


def resume_point(output_dir: str, max_epochs: int, resume: bool = True) -> str | None:
    """Find the checkpoint from which to resume the run in ``output_dir``, or return None to start from scratch.

    A run is resumed if it was interrupted, in its last step too, or if more epochs are requested. A finished run, or
    ``resume=False``, starts from scratch: the files of the earlier run are moved to ``previous``. A damaged checkpoint
    is passed over, with a sentence. The configuration is saved beside the checkpoints as ``config.json`` and compared
    with that of the unfinished run. Of several processes, the first decides for all.

    Raises:
        CheckpointError: the folder contains an unfinished run with other settings or more epochs, or damaged
            checkpoints only.
        ConfigError: the weights to start from are among the files that would be moved.
    """
    decision: list[str | None] = [None]
    if is_main():
        decision[0] = _decide(Path(output_dir), max_epochs, resume)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(decision)
    return decision[0]


def _decide(folder: Path, max_epochs: int, resume: bool) -> str | None:
    point = _latest_intact(folder) if resume else None
    done = 0 if point is None else epoch_of(point)
    if done >= max_epochs and _is_reported(folder, done):
        point = None
    elif done > max_epochs:
        raise CheckpointError(
            f"max_epochs of at least {done}, which the unfinished run in {os.path.relpath(folder)} has reached",
            str(max_epochs),
            "Raise --max_epochs, add --resume False to start again, or choose another --output_dir.",
        )
    workflow = running_workflow()
    config = {} if workflow is None else _without_metadata(workflow.parser.get())
    if point is None:
        _check_pretrained(folder, config.get("pretrained"))
        put_aside(folder)
    elif workflow is not None:
        changed = _changed_settings(folder / "config.json", config)
        if changed:
            raise CheckpointError(
                f"the settings of the unfinished run in {os.path.relpath(folder)}",
                f"another {', '.join(changed)}",
                "Repeat its settings to resume, add --resume False to start again, or choose another --output_dir.",
            )
    if workflow is not None:
        write_json(folder / "config.json", config)
    return None if point is None else str(point)


def _latest_intact(folder: Path) -> Path | None:
    """Return the latest checkpoint without damage; None if the folder has no checkpoints.

    Raises:
        CheckpointError: all are damaged.
    """
    damaged: list[Path] = []
    for path in checkpoints(folder):
        damage = find_damage(path)
        if damage is None:
            if damaged:
                names = " and ".join(bad.name for bad in damaged)
                tqdm.write(f"{names} {'is' if len(damaged) == 1 else 'are'} damaged: resuming from {path.name}.")
            return path
        damaged.append(path)
    if damaged:
        raise CheckpointError(
            f"an intact checkpoint in {os.path.relpath(folder)}",
            f"{damaged[0].name}, which is damaged ({damage})",
            "Restore it from a copy, or add --resume False to start again.",
        )
    return None


def find_damage(checkpoint: Path) -> str | None:
    """Compare the contents of a checkpoint with the checksums in it; return what is wrong, or None.

    PyTorch writes a CRC-32 of every tensor and of the structure, and does not compare them when it reads.
    """
    try:
        with zipfile.ZipFile(checkpoint) as file:
            bad = file.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return None if bad is None else f"the checksum of {bad} differs"


def _is_reported(folder: Path, epochs: int) -> bool:
    """Return True if the results after that many epochs were written; ``metrics.json`` is the last of them."""
    manifest = saved_config(folder / "metrics.json").get("manifest")
    config = manifest.get("config") if isinstance(manifest, dict) else None
    return isinstance(config, dict) and config.get("max_epochs") == epochs


def _check_pretrained(folder: Path, pretrained: Any) -> None:
    if isinstance(pretrained, str) and Path(os.path.realpath(pretrained)).parent == Path(os.path.realpath(folder)):
        raise ConfigError(
            "pretrained weights outside the output folder, whose files a new training moves",
            pretrained,
            "Copy them, or choose another --output_dir.",
        )


def _without_metadata(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration in the form in which it is saved: as JSON values, without the metadata."""
    return json.loads(json.dumps({k: v for k, v in config.items() if k != "_meta_"}, default=str))


def _changed_settings(saved: Path, config: dict[str, Any]) -> list[str]:
    before = saved_config(saved)
    keys = (set(before) | set(config)) - _FREE_TO_CHANGE if before else set()
    return sorted(key for key in keys if before.get(key) != config.get(key))
