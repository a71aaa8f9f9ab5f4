"""MONAI Label app that super-resolves images and regions of slides by any factor, over HTTP.

``python -m monai_iste.label STUDIES`` serves a folder. ``MyApp`` is the class that MONAI Label expects in an app's
``main.py``. It needs the extra ``label``; the other modules do not: :mod:`~monai_iste.label.request` checks the
parameters, :mod:`~monai_iste.label.upscaler` computes the result, :mod:`~monai_iste.label.training` trains on the
studies, :mod:`~monai_iste.label.client` is a command-line client.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import MyApp on first access, so that clients do not need MONAI Label."""
    if name == "MyApp":
        from monai_iste.errors import require_extra

        require_extra("monailabel", "label")
        from monai_iste.label.app import MyApp

        return MyApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
