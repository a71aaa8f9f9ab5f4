"""monai_iste: arbitrary-scale super-resolution of H&E histopathology as a MONAI component library.

Importing it makes its networks and transforms known to MONAI configurations under their short names.
"""

from monai_iste import bundle, data, engines, errors, handlers, inferers, losses, metrics, networks, slides, transforms
from monai_iste.functional import upscale

# Under the name load_network in its own module, so that MONAI configurations keep MONAI's load.
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

__version__ = "0.1.0"
