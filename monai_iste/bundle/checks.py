"""Checks of a configuration before it runs: names and values of settings."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from monai.bundle import ConfigWorkflow
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS, ID_SEP_KEY
from monai.utils import BundlePropertyConfig

from monai_iste.bundle.runs import exported_file, loaded_file, running_workflow
from monai_iste.errors import ConfigError, show_errors_as_sentences
from monai_iste.networks.runtime import check_learned_blur, known_device
from monai_iste.networks.weights import fill_network, read_weights

# Top-level keys that MONAI or a command reads; other keys must be referred to by some part of the configuration.
_ENTRY_POINTS = {
    *("imports", "initialize", "run", "finalize", "training", "evaluating", "inference", "_meta_"),
    *(
        str(item[BundlePropertyConfig.ID]).split(ID_SEP_KEY)[0]
        for item in (*TrainProperties.values(), *InferProperties.values())
    ),
    *cast(dict[str, Any], DEFAULT_MLFLOW_SETTINGS["configs"]),
}

# Settings that only the named stages or the schedule of train.json read. An overlay may replace those; the setting is
# then unread.
_STAGE_SETTINGS = {"scale_range", "degradation", "num_points", "num_rows", "final_learning_rate"}

# Valid values of settings whose invalid values would otherwise fail inside a component, with a long traceback. The
# command line is parsed as Python literals: 2024 becomes a number, and "true", which is not a literal, stays text.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("max_epochs", "steps_per_epoch", "crops_per_image", "batch_size", "lr_size", "num_points", "val_interval"),
        ("a whole number of at least 1", lambda value: _is_whole(value) and value >= 1),
    ),
    **dict.fromkeys(
        ("num_workers", "cache_bytes"), ("a whole number of at least 0", lambda value: _is_whole(value) and value >= 0)
    ),
    "encoder_precision": ("fp32 or bf16", lambda value: value in ("fp32", "bf16")),
    "seed": ("a whole number", lambda value: _is_whole(value)),
    **dict.fromkeys(
        ("learning_rate", "scale", "mpp", "input_mpp"),
        ("a finite number above 0", lambda value: _is_finite(value) and value > 0),
    ),
    "input_blur": ("a finite number of at least 0", lambda value: _is_finite(value) and value >= 0),
    "max_scale": ("a finite number of at least 1", lambda value: _is_finite(value) and value >= 1),
    **dict.fromkeys(
        ("resume", "overwrite", "tissue_only", "consistency", "fid", "tell_blur"),
        ("True or False", lambda value: isinstance(value, bool)),
    ),
    **dict.fromkeys(
        ("dataset_dir", "native_dir", "output_dir", "pretrained", "checkpoint", "slide", "output", "work_dir"),
        ("a path, ./2024 if it is a number", lambda value: isinstance(value, (str, os.PathLike))),
    ),
}


def check_config() -> None:
    """Check keys and values of the running workflow, and shorten errors to one sentence under MONAI's command.

    This is the first step of every workflow. In ``monai.bundle.load``, the network is compared with the file too.

    Raises:
        ConfigError: a top-level key is not read by anything, most likely a misspelled override, or a value is invalid.
        CheckpointError: the file that is loaded belongs to another network.
    """
    _shorten_errors()
    workflow = running_workflow()
    if workflow is not None:
        _check_keys(workflow.parser.get())
        _check_values(workflow.parser.get())
        if "bundle_root" in workflow.parser:  # resolved here: settings may be asked for where no workflow is found
            workflow.parser.get_parsed_content("bundle_root")
        file = loaded_file()
        if file:
            _check_loaded(workflow, file)


def _shorten_errors() -> None:
    """Shorten errors to one sentence where MONAI's command runs."""
    if getattr(sys.modules["__main__"].__spec__, "name", "") == "monai.bundle.__main__":
        show_errors_as_sentences()


def learned_blur(input_blur: float | None, preset: str, weights: str | None) -> float | None:
    """Return a blur that a network is to be told, after a comparison with what its weights learned.

    Args:
        input_blur: blur of the images in their pixels; None: unknown.
        preset: preset of the network.
        weights: file of the weights. In MONAI's exports, which check nothing else, it is the file that they read.
    Raises:
        ConfigError: it is no blur, or the released weights did not learn it.
    """
    file = exported_file()
    if file is not None:
        _shorten_errors()
    check_learned_blur(preset, file or weights, input_blur)
    return input_blur


def _check_loaded(workflow: ConfigWorkflow, file: str) -> None:
    """Check that the network fits the file that ``monai.bundle.load`` reads: it skips tensors that do not.

    The network is created here, once, with the random state put back.

    Raises:
        CheckpointError: the file belongs to another network or to one with other options.
        ConfigError: the network is told a blur that the released weights did not learn.
    """
    with torch.random.fork_rng(devices=[]):
        network = workflow.parser.get_parsed_content("network_def")
    fill_network(network, read_weights(file), file)
    if "preset" in workflow.parser:
        preset = workflow.parser.get_parsed_content("preset")
        check_learned_blur(preset, file, getattr(network, "input_blur", None))


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
    """Check the literal values; expressions and None are not checked."""
    literal = {
        key: value
        for key, value in config.items()
        if value is not None and not (isinstance(value, str) and value.startswith(("$", "@", "%")))
    }
    for key, (expected, is_valid) in _VALUES.items():
        if key in literal and not is_valid(literal[key]):
            remedy = "See the settings in the bundle's docs/README.md."
            raise ConfigError(f"{key} to be {expected}", repr(literal[key]), remedy)
    if "device" in literal:
        known_device(literal["device"])


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def required(value: Any, key: str) -> Any:
    """Return ``value``, the setting ``key`` without a default.

    Raises:
        ConfigError: the value is None.

    Example:
        >>> required("a.svs", "slide")
        'a.svs'
    """
    if value is None:
        raise ConfigError(f"a value for {key}", "none", f"Name it: --{key} FILE.")
    return value
