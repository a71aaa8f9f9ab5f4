"""Packages that only whole slides need: imported where they are used, with an error that says how to get them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from monai_iste.errors import ConfigError

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import a module that an extra brings.

    Args:
        module: its name, such as ``"zarr"``.
        extra: the extra of this package that installs it.
    Raises:
        ConfigError: it is not installed; the sentence has the command.

    Example:
        >>> require("json", "slides").dumps([1])
        '[1]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the package {module.partition('.')[0]}, which the extra {extra!r} brings",
            str(error),
            f'Install it: pip install "monai_iste[{extra}]".',
        ) from error
