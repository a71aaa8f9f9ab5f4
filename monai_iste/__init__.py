"""monai_iste: arbitrary-scale super-resolution of H&E histopathology as a MONAI component library.

Importing it makes its networks and transforms known to MONAI configurations under their short names.
"""

from monai_iste import bundle, data, engines, errors, handlers, inferers, metrics, networks, transforms

__all__ = [
    "__version__",
    "bundle",
    "data",
    "engines",
    "errors",
    "handlers",
    "inferers",
    "metrics",
    "networks",
    "transforms",
]

__version__ = "0.1.0"
