"""Warning of the commands about an input that is outside what the weights learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_iste.cli.options import log
from monai_iste.inferers.input_traits import describe_departure
from monai_iste.inferers.tiling import Region
from monai_iste.networks.presets import learned_range

if TYPE_CHECKING:
    from monai_iste.slides.reader import Slide


def warn_departure(
    network_info: dict[str, Any],
    source: Path,
    read: Callable[[Region], np.ndarray],
    size: tuple[int, int],
    mpp: tuple[float, float] | None,
) -> dict[str, str]:
    """Log a warning if an input is outside what the weights learned; return it for the report.

    Args:
        network_info: has ``preset`` and ``weights``, the file, of the network.
        read, size, mpp: see :func:`~monai_iste.inferers.input_traits.measure_traits`.
    """
    warning = describe_departure(learned_range(network_info["preset"], network_info["weights"]), read, size, mpp)
    if warning:
        log(f"warning: {source} is {warning}")
    return {"warning": warning}


def warn_slide_departure(network_info: dict[str, Any], slide: Slide) -> dict[str, str]:
    """Log and return the warning of :func:`warn_departure` about a slide."""
    return warn_departure(network_info, slide.path, slide.read, slide.size, slide.mpp)
