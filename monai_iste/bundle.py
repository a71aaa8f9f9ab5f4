"""What the bundle's configurations ask of Python: where they are, whether they are sound, where a run stopped."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import os
import re
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigWorkflow
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS, ID_SEP_KEY
from monai.utils import BundlePropertyConfig

import monai_iste
from monai_iste.errors import CheckpointError, ConfigError, OutputError, show_errors_as_sentences
from monai_iste.io.files import read_json, write_json
from monai_iste.networks import PRESETS, create_iste, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import known_device
from monai_iste.networks.weights import misfits, read_weights

# Top-level keys that MONAI or a command reads, so that no other part of a configuration needs to refer to them.
_ENTRY_POINTS = {"imports", "initialize", "run", "finalize", "training", "evaluating", "inference", "_meta_"}


_ENTRY_POINTS |= {
    str(item[BundlePropertyConfig.ID]).split(ID_SEP_KEY)[0]
    for item in (*TrainProperties.values(), *InferProperties.values())
}


_ENTRY_POINTS |= set(cast(dict[str, Any], DEFAULT_MLFLOW_SETTINGS["configs"]))

# Settings that only the named stages of train.json read. An overlay may replace a stage; its setting is then unread.
_STAGE_SETTINGS = {"scale_range", "degradation", "num_points"}

# What settings may be, where any other value would end in a page of errors from the component that takes it. The
# command's parser reads true, false and 2024 as it likes: a word that is no value of Python stays text.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("max_epochs", "steps_per_epoch", "batch_size", "lr_size", "num_points", "val_interval"),
        ("a whole number of at least 1", lambda value: _is_whole(value) and value >= 1),
    ),
    "num_workers": ("a whole number of at least 0", lambda value: _is_whole(value) and value >= 0),
    "seed": ("a whole number", lambda value: _is_whole(value)),
    **dict.fromkeys(
        ("learning_rate", "scale", "mpp", "input_mpp"),
        ("a finite number above 0", lambda value: _is_finite(value) and value > 0),
    ),
    "max_scale": ("a finite number of at least 1", lambda value: _is_finite(value) and value >= 1),
    **dict.fromkeys(
        ("resume", "overwrite", "tissue_only", "consistency", "fid"),
        ("True or False", lambda value: isinstance(value, bool)),
    ),
    **dict.fromkeys(
        ("dataset_dir", "output_dir", "pretrained", "checkpoint", "slide", "output", "work_dir"),
        ("a path, ./2024 if it is a number", lambda value: isinstance(value, (str, os.PathLike))),
    ),
}

# Settings that may change between the parts of one run.
_FREE_TO_CHANGE = {"max_epochs", "num_workers", "resume", "output_dir", "device", "bundle_root"}


def running_workflow() -> ConfigWorkflow | None:
    """The MONAI workflow whose configuration is being evaluated, found on the call stack.

    MONAI gives a configuration no other way to know its own file or its own keys.
    """
    frame = inspect.currentframe()
    while frame is not None:
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, ConfigWorkflow):
            return candidate
        frame = frame.f_back
    return None


def resolved_settings() -> dict[str, Any] | None:
    """Return the plain top-level settings of the running workflow as resolved; None if no workflow is running.

    Of a path only the last part is kept.
    """
    workflow = running_workflow()
    if workflow is None:
        return None
    resolved = workflow.parser.ref_resolver.resolved_content
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


def bundle_root() -> str:
    """The folder of the bundle whose configuration is being evaluated, wherever the command was typed.

    It is the parent of the configuration's ``configs`` folder. It is the current folder when no workflow is running, or
    when the configuration is the installed package's: nothing is written there.
    """
    workflow = running_workflow()
    folder = Path.cwd() if workflow is None else Path(workflow.config_root_path).absolute()
    if folder == _PACKAGE / "configs":
        return str(Path.cwd())
    return str(folder.parent if folder.name == "configs" else folder)


def check_config() -> None:
    """First step of every workflow: errors as sentences when MONAI's command runs, and a check of keys and values.

    Raises:
        ConfigError: a top-level key that nothing reads, most likely a misspelled override, or a value that cannot be.
    """
    if getattr(sys.modules["__main__"].__spec__, "name", "") == "monai.bundle.__main__":
        show_errors_as_sentences()
    workflow = running_workflow()
    if workflow is not None:
        _check_keys(workflow.parser.get())
        _check_values(workflow.parser.get())


def _check_keys(config: dict[str, Any]) -> None:
    known = _ENTRY_POINTS | set(re.findall(r"[@%](\w+)", json.dumps(config, default=str)))
    if "train" in config:
        known |= _STAGE_SETTINGS
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                "configuration keys that are in use",
                repr(key),
                f"Did you mean {near[0]!r}?" if near else "Check its spelling in the bundle's docs/README.md.",
            )


def _check_values(config: dict[str, Any]) -> None:
    """Of what was written down; an expression is what it gives, and None leaves a setting out."""
    plain = {
        key: value
        for key, value in config.items()
        if value is not None and not (isinstance(value, str) and value.startswith(("$", "@", "%")))
    }
    for key, (expected, fits) in _VALUES.items():
        if key in plain and not fits(plain[key]):
            remedy = "See the settings in the bundle's docs/README.md."
            raise ConfigError(f"{key} to be {expected}", repr(plain[key]), remedy)
    if "device" in plain:
        known_device(plain["device"])


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def print_summary(preset: str, device: torch.device | str, steps: int, batch_size: int) -> None:
    """One line: what is about to be trained, on what, for how long, and where the paper's own recipe is."""
    if not is_main():
        return
    device = torch.device(device)
    print(
        f"{'No CUDA device: training' if device.type == 'cpu' else 'Training'} {preset} on {device} for {steps} steps "
        f"of {batch_size} crops. The paper's full recipe (SwinIR encoder, 48x48 crops, 1000 epochs) is the overlay "
        "configs/paper.json, see the bundle's docs/README.md.",
        flush=True,
    )


def is_main() -> bool:
    """Whether this is the process that prints and writes: the only one, or the first of torch.distributed.run."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: torch.device) -> int:
    """Join the processes that train or evaluate together: NCCL between GPUs, gloo between CPUs. Returns the own rank.

    Raises:
        ConfigError: the command was not started by ``torch.distributed.run``.
    """
    if "RANK" not in os.environ:
        raise ConfigError(
            "the multi-GPU overlay under torch.distributed.run",
            "a single process",
            "Start it with python -m torch.distributed.run --standalone --nproc_per_node=N -m monai.bundle run ...",
        )
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank()


def leave_cores_to_workers(num_workers: int) -> None:
    """Give every data-loading process a core of its own.

    PyTorch starts a thread for every core, and each parallel region waits for the slowest: a busy loader, or any other
    program, on one of two cores makes a step ten times as long as on one thread.
    """
    torch.set_num_threads(max(1, torch.get_num_threads() - num_workers))


def claim_output_dir(folder: str) -> str:
    """Create the output folder and make sure that it can be written to.

    Raises:
        OutputError: it cannot.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        probe = os.path.join(folder, ".writable")
        with open(probe, "w"):
            pass
        os.remove(probe)
    except OSError as error:
        raise OutputError(
            "an output folder that can be written to", f"{folder} ({error.strerror})", "Name another --output_dir."
        ) from error
    return folder


def required(value: Any, key: str) -> Any:
    """A setting that has no default.

    Raises:
        ConfigError: it was not given.

    Example:
        >>> required("a.svs", "slide")
        'a.svs'
    """
    if value is None:
        raise ConfigError(f"a value for {key}", "none", f"Name it: --{key} FILE.")
    return value


def default_preset(output_dir: str, checkpoint: str | None = None) -> str:
    """The preset of ``checkpoint``, else of ``<output_dir>/model.pt`` if a training left one, else the released one."""
    path = Path(checkpoint or os.path.join(output_dir, "model.pt"))
    return next(iter(_presets_of(path)), DEFAULT_PRESET) if path.is_file() else DEFAULT_PRESET


def find_weights(output_dir: str, preset: str, checkpoint: str | None = None) -> str | None:
    """The file that an evaluation reads its weights from: what was named, else trained, else released.

    Args:
        output_dir: where a training may have left its ``model.pt``; one of another preset is passed over.
        preset: the network's, chosen by the user or by :func:`default_preset`.
        checkpoint: the file that the user names.
    Returns:
        the file; None where nothing was trained and nothing is released.
    """
    if checkpoint is not None:
        return checkpoint
    trained = Path(output_dir, "model.pt")
    if trained.is_file() and preset in (_presets_of(trained) or [preset]):
        return str(trained)
    released = released_weights(preset)
    return None if released is None else str(released)


def _presets_of(weights: Path) -> list[str]:
    """The presets whose tensors a file holds, the one that the training beside it names first.

    That name alone would not do: ``config.json`` keeps the preset as it was written, which may be an expression for the
    machine of the training, and it may be of a later, unfinished run.
    """
    state = read_weights(weights)
    with torch.random.fork_rng(devices=[]):  # networks are made here that a seeded run knows nothing of
        fitting = [name for name in PRESETS if not misfits(create_iste(name), state)]
    named = _saved_config(weights.with_name("config.json")).get("preset")
    return sorted(fitting, key=lambda name: name != named)


def _saved_config(path: Path) -> dict[str, Any]:
    """What a run wrote down of its settings; nothing if the file is not there or damaged."""
    with suppress(ValueError):
        saved = read_json(path)
        if isinstance(saved, dict):
            return saved
    return {}


def resume_point(output_dir: str, max_epochs: int, resume: bool = True) -> str | None:
    """The checkpoint from which an interrupted run in ``output_dir`` goes on, or None to start anew.

    A run goes on when its last checkpoint lies before ``max_epochs``: it was interrupted, or more epochs are asked for.
    A finished run, or ``resume=False``, starts anew and removes the old checkpoints. The configuration is kept beside
    the checkpoints as ``config.json``; a checkpoint of another job is refused.

    Raises:
        CheckpointError: the folder holds an unfinished run with other settings.
    """
    folder = Path(output_dir)
    checkpoints = sorted(folder.glob("checkpoint_epoch=*.pt"), key=_epoch)
    whole = [path for path in checkpoints if zipfile.is_zipfile(path)]  # a file cut off by a crash is no zip archive
    point = whole[-1] if whole and resume and _epoch(whole[-1]) < max_epochs else None
    workflow = running_workflow()
    if workflow is not None:
        config = _plain(workflow.parser.get())
        changed = _changed_settings(folder / "config.json", config)
        if point is not None and changed:
            raise CheckpointError(
                f"the settings of the unfinished run in {os.path.relpath(folder)}",
                f"another {', '.join(changed)}",
                "Repeat its settings to go on, add --resume False to start anew, or choose another --output_dir.",
            )
        if is_main():
            write_json(folder / "config.json", config)
    for path in checkpoints:
        if path != point and is_main():
            path.unlink()
    return None if point is None else str(point)


def _epoch(path: Path) -> int:
    return int(path.stem.rpartition("=")[2])


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as written to disk: without the metadata."""
    return json.loads(json.dumps({k: v for k, v in config.items() if k != "_meta_"}, default=str))


def _changed_settings(saved: Path, config: dict[str, Any]) -> list[str]:
    before = _saved_config(saved)
    keys = (set(before) | set(config)) - _FREE_TO_CHANGE if before else set()
    return sorted(key for key in keys if before.get(key) != config.get(key))


_PACKAGE = Path(monai_iste.__file__).parent


def config_file(name: str) -> Path:
    """Path of one of the bundle's configurations, which travel with the package.

    In a clone ``monai_iste/configs`` is a link to ``bundles/iste/configs``; the path then leads into the bundle.

    Args:
        name: of the file, without ``.json``.
    Raises:
        ConfigError: there is no such configuration.

    Example:
        >>> config_file("train").name
        'train.json'
    """
    file = _PACKAGE / "configs" / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.json")))
        raise ConfigError(f"a configuration of the bundle: {known or 'none is installed'}", repr(name), "Name one.")
    return file.resolve()


def bundle_command(workflow: str, configs: Sequence[str | Path], options: Mapping[str, Any]) -> list[str]:
    """Build the command line of one of the bundle's workflows.

    Args:
        workflow: "training" or "evaluating".
        configs: configurations, later ones are overlays: names of the bundle's (see :func:`config_file`), or paths.
        options: settings that differ from theirs.
    Raises:
        ConfigError: the bundle has no configuration of that name.

    Example:
        >>> bundle_command("training", ["train"], {"seed": 1})[1:5]
        ['-m', 'monai.bundle', 'run', 'training']
    """
    files = [str(config_file(config) if isinstance(config, str) else config) for config in configs]
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", workflow, "--config_file", str(files), *words]
