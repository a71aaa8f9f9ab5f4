"""A MONAI Label app: images and regions of slides, magnified by any factor, over HTTP.

``python -m monai_iste.label STUDIES`` serves a folder. ``MyApp`` is what MONAI Label looks for in an app's ``main.py``;
it needs the extra ``label``, the rest of this package does not:
:mod:`~monai_iste.label.request` is what may be asked for, :mod:`~monai_iste.label.magnifier` answers it,
:mod:`~monai_iste.label.training` trains on the studies, :mod:`~monai_iste.label.client` asks.
"""

from typing import Any

__all__ = ["MyApp"]


def __getattr__(name: str) -> Any:
    """MyApp, imported when it is asked for: clients do without MONAI Label."""
    if name == "MyApp":
        from monai_iste.errors import require_extra

        require_extra("monailabel", "label")
        from monai_iste.label.app import MyApp

        return MyApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
