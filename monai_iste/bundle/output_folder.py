"""Output folder of a training: one training at a time, and the files of one run only."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from monai_iste.bundle.runs import loaded_file
from monai_iste.errors import OutputError
from monai_iste.io.files import lock_file, make_folder, remove_abandoned, report_write_errors

#: Folder, inside the output folder, of the run before the present one.
PREVIOUS = "previous"

_CHECKPOINTS = "checkpoint_epoch=*.pt"

# Files of a run, in the order in which they are put aside: the settings last, so that until then a resumed training
# still finds the ones that it began with.
_RESULTS = ("metrics.json", "metrics.csv", "comparison.png", "model.pt", "model_best.pt", "tensorboard")
_SETTINGS = "config.json"

_claims: dict[str, ExitStack] = {}


def claim_output_dir(folder: str, alone: bool = False) -> str:
    """Create the output folder, check that it is writable and, with ``alone``, keep other trainings out of it.

    The claim ends with :func:`release_output_dir` or with the process, however it ends. A process may claim a folder
    twice. Nothing happens in ``monai.bundle.load``, which writes no results.

    Raises:
        OutputError: the folder is not writable, or another process has claimed it.
    """
    if loaded_file() is not None:
        return folder
    try:
        os.makedirs(folder, exist_ok=True)
        probe = os.path.join(folder, f".writable.{os.getpid()}")
        with open(probe, "w"):
            pass
        os.remove(probe)
    except OSError as error:
        raise OutputError(
            "an output folder that can be written to", f"{folder} ({error.strerror})", "Name another --output_dir."
        ) from error
    key = os.path.realpath(folder)
    if alone and key not in _claims:
        claim = ExitStack()
        is_locked = claim.enter_context(lock_file(Path(key)))
        if is_locked is None:
            print(f"Warning: {folder} cannot be locked here: run no other training in it.", flush=True)
        if is_locked is False:
            claim.close()
            raise OutputError(
                "an output folder without another training",
                f"{folder}, in which one is running",
                "Wait for it, stop it, or name another --output_dir.",
            )
        _claims[key] = claim
    return folder


def release_output_dir(folder: str) -> None:
    """Let other trainings use the folder; nothing happens if it is not claimed."""
    claim = _claims.pop(os.path.realpath(folder), None)
    if claim is not None:
        claim.close()


def _forget_claims() -> None:
    """Close the copies of the claims in a forked process: a loading process may outlive a killed training."""
    for claim in _claims.values():
        claim.close()
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_claims)


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, latest first."""
    return sorted(folder.glob(_CHECKPOINTS), key=epoch_of, reverse=True)


def epoch_of(checkpoint: Path) -> int:
    """Return the number of completed epochs in a checkpoint, from its name."""
    return int(checkpoint.stem.rpartition("=")[2])


def put_aside(folder: Path) -> None:
    """Move the files of the earlier run to ``previous``, so that a new run never lies beside files of another.

    A run that left neither a checkpoint nor ``model.pt`` is deleted, and ``previous`` stays. If the process is killed
    in between, the next call completes the move: no file of the new run is written before.

    Raises:
        OutputError: a file cannot be moved.
    """
    part, previous = folder / f".{PREVIOUS}.part", folder / PREVIOUS
    with report_write_errors(folder):
        for cut_off in folder.glob(f".{_CHECKPOINTS}.*.part"):
            remove_abandoned(folder / cut_off.name[1:].rsplit(".", 2)[0])
        found = [path for name in _RESULTS if (path := folder / name).exists()]
        saved = checkpoints(folder)
        if not (part.exists() or saved or (folder / "model.pt").exists()):
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return
        make_folder(part)
        for path in (*found, *reversed(saved), folder / _SETTINGS):
            if path.exists():
                _replace(path, part / path.name)
        if previous.exists():
            shutil.rmtree(previous)
        part.rename(previous)


def _replace(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)
