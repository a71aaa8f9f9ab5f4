"""Arbitrary-scale super-resolution of H&E histopathology as a MONAI component library.

Importing the package is cheap: PyTorch and MONAI are imported with the first attribute that needs them. MONAI's
configurations find components by short name in the modules that are loaded. Importing a subpackage therefore registers
its names, and where MONAI is loaded already, importing this package registers all of them. A program that imports this
package before MONAI names the subpackages in its configuration: ``"imports": ["$import monai_iste.networks"]``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_iste._version import __version__

if TYPE_CHECKING:
    from monai_iste import (
        bundle,
        data,
        engines,
        errors,
        handlers,
        inferers,
        losses,
        metrics,
        networks,
        slides,
        transforms,
    )
    from monai_iste.functional import upscale
    from monai_iste.networks.runtime import load_network as load

__all__ = [
    "__version__",
    "bundle",
    "data",
    "engines",
    "errors",
    "handlers",
    "inferers",
    "load",
    "losses",
    "metrics",
    "networks",
    "slides",
    "transforms",
    "upscale",
]

#: Preset that is used where none is named; its weights are released.
DEFAULT_PRESET = "iste_light2"

# The function load keeps the name load_network in its own module, so that configurations keep MONAI's load.
_FUNCTIONS = {"load": ("networks.runtime", "load_network"), "upscale": ("functional", "upscale")}
_MODULES = tuple(name for name in __all__ if name not in {*_FUNCTIONS, "__version__"})


def __getattr__(name: str) -> Any:
    """Import a function or a subpackage at its first use."""
    if name in _FUNCTIONS:
        module, function = _FUNCTIONS[name]
        return getattr(import_module(f"{__name__}.{module}"), function)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "monai" in sys.modules:
    for _name in _MODULES:
        import_module(f"{__name__}.{_name}")
