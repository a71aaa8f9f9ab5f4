"""Runs of the bundle's workflows: folders, processes, weights, resuming, command lines."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import monai.bundle
import torch
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

import monai_iste
from monai_iste.errors import ConfigError
from monai_iste.io.json_files import read_json
from monai_iste.networks import PRESETS, create_iste, released_weights
from monai_iste.networks.options import differing_options, stated_options
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.weights import misfits, read_weights

_PACKAGE = Path(monai_iste.__file__).parent


def running_workflow() -> ConfigWorkflow | None:
    """Find the MONAI workflow whose configuration is being evaluated, on the call stack.

    MONAI provides no other access to the files and keys of a configuration from inside its expressions.
    """
    frame = inspect.currentframe()
    while frame is not None:
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, ConfigWorkflow):
            return candidate
        frame = frame.f_back
    return None


def loaded_file() -> str | None:
    """Return the file of weights that ``monai.bundle.load`` is reading, "" if unknown; None in any other use.

    MONAI initializes the whole workflow to get its network. A caller who only wants the network must find the seed,
    the threads, the folders and the output of the program unchanged: what a run prepares asks here first.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is monai.bundle.load.__code__:
            return str(frame.f_locals.get("full_path", ""))
        frame = frame.f_back
    return None


def exported_file() -> str | None:
    """Return the file of weights that MONAI's ``ckpt_export``, ``onnx_export`` or ``trt_export`` reads; None elsewhere.

    An export evaluates the network of a configuration, and nothing else of it.
    """
    exports = {
        command.__code__ for command in (monai.bundle.ckpt_export, monai.bundle.onnx_export, monai.bundle.trt_export)
    }
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code in exports:
            return str(frame.f_locals.get("ckpt_file_") or "") or None
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
    """Return the folder of the bundle whose configuration is being evaluated, independent of the current folder.

    It is the parent of the configuration's ``configs`` folder. It is the current folder if no workflow is running, or
    if the configuration belongs to the installed package, where nothing is written.
    """
    workflow = running_workflow()
    folder = Path.cwd() if workflow is None else Path(workflow.config_root_path).absolute()
    if folder == _PACKAGE / "configs":
        return str(Path.cwd())
    return str(folder.parent if folder.name == "configs" else folder)


def print_summary(preset: str, device: torch.device | str, steps: int, batch_size: int) -> None:
    """Print one line: preset, device and length of the training, and where to find the recipe of the paper.

    Nothing is printed in ``monai.bundle.load``.
    """
    if not is_main() or loaded_file() is not None:
        return
    device = torch.device(device)
    print(
        f"{'No CUDA device: training' if device.type == 'cpu' else 'Training'} {preset} on {device} for {steps} steps "
        f"of {batch_size} crops. The paper's full recipe (SwinIR encoder, 48x48 crops, 1000 epochs) is the overlay "
        "configs/paper.json, see the bundle's docs/README.md.",
        flush=True,
    )


def is_main() -> bool:
    """Return True in the process that prints and writes: the only one, or the first of torch.distributed.run."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: torch.device) -> int:
    """Initialize the process group, with NCCL between GPUs and gloo between CPUs, and return the rank.

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


def seed_run(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, and make PyTorch deterministic; nothing changes in ``monai.bundle.load``."""
    if loaded_file() is None:
        set_determinism(seed=seed)


def leave_cores_to_workers(num_workers: int) -> None:
    """Reduce PyTorch's threads by one for every data-loading process.

    PyTorch starts one thread per core, and each parallel region waits for its slowest thread. If a loader, or any other
    program, keeps one of two cores busy, a step takes ten times as long as on one thread. Nothing changes in
    ``monai.bundle.load``.
    """
    if loaded_file() is not None:
        return
    torch.set_num_threads(max(1, torch.get_num_threads() - num_workers))


def default_preset(output_dir: str, checkpoint: str | None = None, bundle_root: str | None = None) -> str:
    """Return the preset of ``checkpoint``, else of a trained ``<output_dir>/model.pt``, else of the bundle's model.

    In ``monai.bundle.load`` and in exports it is the preset of the file that is being loaded.
    """
    named = loaded_file() or exported_file() or checkpoint
    paths = [Path(named)] if named else _trained_weights(output_dir, bundle_root)
    path = next((path for path in paths if path.is_file()), None)
    return next(iter(_matching_presets(path)), DEFAULT_PRESET) if path else DEFAULT_PRESET


def find_weights(
    output_dir: str, preset: str, checkpoint: str | None = None, bundle_root: str | None = None
) -> str | None:
    """Find the weights of an evaluation: the first that exist, of the preset.

    They are ``checkpoint``, if given; those of a training in ``output_dir``; ``models/model.pt`` of the bundle; the
    released ones.

    Args:
        output_dir: folder that may contain ``model.pt`` of a training.
        preset: preset of the network, given by the user or by :func:`default_preset`. Files of other presets are
            ignored.
        checkpoint: file given by the user; it is not compared with the preset.
        bundle_root: folder of the bundle (:func:`bundle_root`).
    Returns:
        the file; None if there are no such weights.
    """
    if checkpoint is not None:
        return checkpoint
    for path in _trained_weights(output_dir, bundle_root):
        if path.is_file() and preset in (_matching_presets(path) or [preset]):
            return str(path)
    released = released_weights(preset)
    return None if released is None else str(released)


def _trained_weights(output_dir: str, bundle_root: str | None) -> list[Path]:
    """List where weights of a training may be: in its output folder, then in the bundle, see :func:`bundle_root`."""
    paths = [Path(output_dir, "model.pt")]
    if bundle_root is not None and Path(bundle_root, "configs").is_dir():
        paths.append(Path(bundle_root, "models", "model.pt"))
    return paths


def _matching_presets(weights: Path) -> list[str]:
    """List the presets whose tensors match a file of weights.

    Presets with the options that the file states come first, then the one named in the ``config.json`` beside it. That
    name alone is not reliable: ``config.json`` contains the preset as written, possibly an expression for the
    machine of the training, and it may belong to a later, unfinished run.
    """
    state = read_weights(weights)
    with torch.random.fork_rng(devices=[]):  # creating networks must not change the random state of a seeded run
        networks = {name: create_iste(name) for name in PRESETS}
    named = saved_config(weights.with_name("config.json")).get("preset")
    matching = [name for name, network in networks.items() if not misfits(network, state)]
    stated = stated_options(state)
    return sorted(matching, key=lambda name: (bool(differing_options(networks[name], stated)), name != named))


def saved_config(path: Path) -> dict[str, Any]:
    """Read the saved settings of a run; empty if the file is missing or damaged."""
    with suppress(ValueError):
        saved = read_json(path)
        if isinstance(saved, dict):
            return saved
    return {}


def config_file(name: str) -> Path:
    """Return the path of a configuration of the bundle in the package.

    In a clone ``monai_iste/configs`` is a link to ``bundles/iste/configs``, and the path is resolved to the bundle.

    Args:
        name: name of the file, without ``.json``.
    Raises:
        ConfigError: the configuration does not exist.

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
    """Build the command line of a workflow of the bundle.

    Args:
        workflow: "training" or "evaluating".
        configs: configurations, later ones are overlays: names of the bundle's (see :func:`config_file`), or paths.
        options: settings that override those of the configurations.
    Raises:
        ConfigError: the bundle has no configuration of that name.

    Example:
        >>> bundle_command("training", ["train"], {"seed": 1})[1:5]
        ['-m', 'monai.bundle', 'run', 'training']
    """
    files = [str(config_file(config) if isinstance(config, str) else config) for config in configs]
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", workflow, "--config_file", str(files), *words]
