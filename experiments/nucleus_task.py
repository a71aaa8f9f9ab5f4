"""Nucleus detection without training, and one-to-one matching of the nuclei of two images.

The detector is a classical one, built from scikit-image, with the same lengths in micrometers for every image. Trained
detectors are better. Here it only matters that the same detector is applied to originals and reconstructions, and that
it uses color and shape as trained ones do.
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

# Lengths in micrometers.
_SMOOTHING = 0.6  # standard deviation of the smoothing of stain and distances

_SURROUNDINGS = 8.0  # standard deviation of the local mean that a nucleus has to exceed

_SMALLEST = 12.0  # square micrometers, a disc of diameter 4

_APART = 2.5  # smallest distance between the centers of two nuclei


def find_nuclei(image: np.ndarray, mpp: float) -> np.ndarray:
    """Detect the nuclei in an H&E image and return their label map.

    With h the smoothed hematoxylin channel of ``rgb2hed``::

        nucleus  = h > Otsu's threshold of h  and  h > the mean of h around it (Gaussian, 8 um)
        marker   = a peak of the distance to the nuclei's edge, 2.5 um or more from higher ones
        label    = watershed of that distance from the markers

    after holes and regions below 12 square micrometers were filled and removed. The second condition separates nuclei
    in dense epithelium, which is dark throughout.

    Shape:
        image: (3, H, W), uint8; returns (H, W), int32: 1, 2, ... for nuclei, 0 elsewhere
    Units: mpp in micrometers per pixel.
    Raises:
        ShapeError: the image does not have three channels.

    Example:
        >>> int(find_nuclei(np.full((3, 40, 40), 255, np.uint8), 0.5).max())  # background
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
    """Compute the centroids of the objects of a label map, in micrometers from the upper left corner.

    Shape:
        labels: (H, W); returns (N, 2), order (y, x)

    Example:
        >>> centroids(np.array([[0, 1, 1], [2, 1, 1]]), 0.5).tolist()
        [[0.5, 1.0], [0.75, 0.25]]
    """
    count = int(labels.max(initial=0))
    found = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)) if count else []
    return (np.reshape(found, (-1, 2)) + 0.5) * mpp


class Agreement(NamedTuple):
    """Counts of reference objects (``there``), of found objects, and of matched pairs."""

    there: int
    found: int
    matched: int

    @property
    def f1(self) -> float:
        """2 matched / (there + found); 1 if both are 0."""
        total = self.there + self.found
        return 2 * self.matched / total if total else 1.0


def agreement(there: np.ndarray, found: np.ndarray, distance: float) -> Agreement:
    """Match two sets of points one to one: the largest number of pairs, and of these the smallest total distance.

    Args:
        there: reference points.
        found: points to match.
        distance: largest distance of a pair.
    Shape:
        there: (N, 2); found: (M, 2)
    Units: those of the distance.

    Example:
        >>> agreement(np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.5]]), 1.0)
        Agreement(there=2, found=1, matched=1)
    """
    apart = cdist(there, found)
    near = apart <= distance
    # A pair beyond the distance costs more than all valid pairs together, so that the number of pairs comes first.
    cost = np.where(near, apart, distance * (1 + min(apart.shape)) + 1)
    pairs = linear_sum_assignment(cost)
    return Agreement(len(there), len(found), int(near[pairs].sum()))
