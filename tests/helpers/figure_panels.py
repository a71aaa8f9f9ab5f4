"""A tile, a network of random weights, and the contents of a figure's panels, for tests of figures."""

import numpy as np
from reference import randomise
from skimage.data import immunohistochemistry

from monai_iste.inferers import Region
from monai_iste.networks import ISTE, EDSREncoder

TILE = np.ascontiguousarray(immunohistochemistry().transpose(2, 0, 1)[:, 96:168, 200:297])  # 72 x 97
CROP = Region(20, 30, 40, 40)


def network(**arguments):
    widths = {"texture_channels": 5, "hidden_channels": 6, "bicubic_residual": True}
    return randomise(ISTE(EDSREncoder(4, 1), **{**widths, **arguments})).eval()


def pixels(axes):
    """The only image of a panel, and its extent."""
    (image,) = axes.images
    return np.asarray(image.get_array()), image.get_extent()


def panel(figure, title):
    (found,) = (axes for axes in figure.axes if axes.get_title() == title)
    return found


def bar(figure):
    (found,) = (axes for axes in figure.axes if hasattr(axes, "_colorbar"))
    return found
