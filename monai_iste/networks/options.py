"""Options of a network that its tensors do not show, such as ``texture_corners``: in state dictionaries and files.

Weights run with other options than those of their training give a worse image and no error. State dictionaries of these
networks therefore state the options, ``torch.save`` keeps them, and loading into a network with others is refused.
State dictionaries without options, such as those of earlier versions, are loaded as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, cast

from torch import nn

from monai_iste.errors import CheckpointError

#: Key of the options in the metadata that PyTorch keeps with a state dictionary, module by module.
OPTIONS_KEY = "options"


def stated_options(state: Any) -> dict[str, Any] | None:
    """Return the options that a state dictionary states, or None."""
    metadata = getattr(state, "_metadata", None)
    options = metadata.get("", {}).get(OPTIONS_KEY) if isinstance(metadata, Mapping) else None
    return options if isinstance(options, dict) else None


def state_options(state: Any, options: dict[str, Any] | None) -> None:
    """Make a state dictionary, an ``OrderedDict``, state options."""
    if options is not None:
        state._metadata = {"": {OPTIONS_KEY: options}}


def differing_options(network: nn.Module, stated: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the stated options that a network does not have, by name.

    An option that is not stated did not exist when the weights were written; it counts as the constructor's default.
    """
    own = _options_of(network)
    if stated is None or own is None:
        return {}
    defaults = inspect.signature(type(network)).parameters
    before = {name: defaults[name].default for name in own}
    return {name: value for name, value in {**before, **stated}.items() if name not in own or own[name] != value}


def check_options(
    network: nn.Module, stated: Mapping[str, Any] | None, source: str, may_differ: Collection[str] = ()
) -> None:
    """Raise CheckpointError unless a network has the options that its weights state.

    Args:
        network: any module; only :class:`~monai_iste.networks.base.UpscalingNetwork` has options.
        stated: options of the weights; None if they state none.
        source: where the weights come from, for the message.
        may_differ: options that the caller changed on purpose.
    """
    different = differing_options(network, stated)
    allowed = {*may_differ, *getattr(network, "free_options", ())}
    wrong = {name: value for name, value in different.items() if name not in allowed}
    if not wrong:
        return
    own = _options_of(network) or {}
    name, value = next(iter(wrong.items()))
    if name not in own:
        raise CheckpointError(
            f"weights whose options this version of monai_iste knows in {source}",
            f"the option {name}={value!r}",
            "Update monai_iste.",
        )
    theirs = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
    raise CheckpointError(
        f"weights of {type(network).__name__} with {', '.join(f'{name}={own[name]!r}' for name in wrong)} in {source}",
        f"weights that were trained with {theirs}",
        f"Build the network with {theirs}; in a bundle: --network_def#{name} {value}.",
    )


def _options_of(network: nn.Module) -> dict[str, Any] | None:
    return cast(Any, network).options() if hasattr(type(network), "option_names") else None
