"""What the nuclei experiment does to an image: find nuclei without any training, and pair those of two images.

The detector is a classical one, of scikit-image's parts, with the same lengths in micrometers for every image. It is no
good detector, as those go: what matters is that it is the same before and after, and that it looks at color and shape
as trained ones do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from experiments.gland_task import label_instances
from monai_iste.errors import ShapeError

# Micrometers.
_SMOOTHING = 0.6  # standard deviation, of the stain and of the distances


_SURROUNDINGS = 8.0  # standard deviation of what a nucleus has to be darker than


_SMALLEST = 12.0  # square micrometers: a disc 4 across


_APART = 2.5  # between the centers of two nuclei


def find_nuclei(image: np.ndarray, mpp: float) -> np.ndarray:
    """A label map of the nuclei in H&E tissue.

    With h the hematoxylin of ``rgb2hed``, smoothed::

        nucleus  = h > Otsu's threshold of h  and  h > the mean of h around it (Gaussian, 8 um)
        marker   = a peak of the distance to the nuclei's edge, 2.5 um or more from higher ones
        label    = watershed of that distance from the markers

    after holes and regions below 12 square micrometers were filled and removed. Crowded epithelium is dark all over:
    the second condition is what tells its nuclei apart.

    Shape:
        image: (3, H, W), uint8; returns (H, W), int32: 1, 2, ... for nuclei, 0 elsewhere
    Units: mpp in micrometers per pixel.
    Raises:
        ShapeError: the image has no three channels.

    Example:
        >>> int(find_nuclei(np.full((3, 40, 40), 255, np.uint8), 0.5).max())  # glass
        0
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ShapeError("an RGB image of shape (3, H, W)", str(image.shape), "Give its channels first.")
    stain = gaussian(rgb2hed(image.transpose(1, 2, 0))[..., 0], _SMOOTHING / mpp)
    dark = stain > np.maximum(threshold_otsu(stain), gaussian(stain, _SURROUNDINGS / mpp))
    regions = label_instances(dark.astype(np.uint8), min_area=round(_SMALLEST / mpp**2))
    depth = gaussian(ndimage.distance_transform_edt(regions > 0), _SMOOTHING / mpp)
    apart = max(1, round(_APART / mpp))
    peaks = peak_local_max(depth, min_distance=apart, labels=regions, exclude_border=False)
    markers = np.zeros(regions.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, markers, mask=regions > 0), np.int32)


def centroids(labels: np.ndarray, mpp: float) -> np.ndarray:
    """Where the objects of a label map are, (N, 2), order (y, x), in micrometers from the upper left corner.

    Example:
        >>> centroids(np.array([[0, 1, 1], [2, 1, 1]]), 0.5).tolist()
        [[0.5, 1.0], [0.75, 0.25]]
    """
    count = int(labels.max(initial=0))
    found = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)) if count else []
    return (np.reshape(found, (-1, 2)) + 0.5) * mpp


class Agreement(NamedTuple):
    """How many objects there are, how many were found, and how many of these are the same."""

    there: int
    found: int
    matched: int

    @property
    def f1(self) -> float:
        """2 matched / (there + found); 1 where there is nothing and nothing was found."""
        total = self.there + self.found
        return 2 * self.matched / total if total else 1.0


def agreement(there: np.ndarray, found: np.ndarray, distance: float) -> Agreement:
    """Pair two sets of points one to one: as many pairs as there can be, and of these the nearest.

    Args:
        distance: largest of a pair.
    Shape:
        there: (N, 2); found: (M, 2)
    Units: those of the distance.

    Example:
        >>> agreement(np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.5]]), 1.0)
        Agreement(there=2, found=1, matched=1)
    """
    apart = cdist(there, found)
    near = apart <= distance
    # A pair that is too far apart costs more than all near ones together, so that none is given up for shorter ones.
    cost = np.where(near, apart, distance * (1 + min(apart.shape)) + 1)
    pairs = linear_sum_assignment(cost)
    return Agreement(len(there), len(found), int(near[pairs].sum()))
