"""Stain densities by color deconvolution, and their comparison between two images.

The stain matrix is the published one of Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 23
(2001), as in scikit-image. It is not fitted to the images: laboratories and scanners differ from it, so that densities
of different slides are not comparable. Here only two versions of one tile are compared.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2hed, rgb2lab

from monai_iste.errors import ShapeError

#: Stains, in the order of :func:`stain_densities`.
STAINS = ("hematoxylin", "eosin")

# scikit-image replaces intensities below 1e-6 by 1e-6 and divides optical densities by that of 1e-6.
_LARGEST_DENSITY = -math.log10(1e-6)

# Densities that differ by less are equal: one 8-bit level changes the optical density of a channel by 0.0017 or more.
_LEAST_DENSITY = 1e-6


def stain_densities(image: np.ndarray) -> np.ndarray:
    """Compute the densities of hematoxylin and eosin in every pixel.

    With ``I`` the intensities (r, g, b) of a pixel in [0, 1] and ``B`` the optical densities of hematoxylin, eosin and
    DAB per channel (rows of scikit-image's ``rgb_from_hed``)::

        (h, e, d) = max(-log10(max(I, 1e-6)) B^-1, 0)

    This is ``rgb2hed`` times 6, its normalization undone. An H&E slide contains no DAB: that component holds what the
    two other stains do not explain, and is dropped.

    Shape:
        image: (3, H, W), uint8, or float in [0, 1]; returns (2, H, W)
    Units: optical density (base 10).
    Raises:
        ShapeError: the image does not have three channels.

    Example:
        >>> stain_densities(np.full((3, 1, 1), 255, np.uint8)).ravel().tolist()  # white
        [0.0, 0.0]
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ShapeError("an RGB image of shape (3, H, W)", str(image.shape), "Give its channels first.")
    hed = rgb2hed(image.transpose(1, 2, 0))
    return _LARGEST_DENSITY * hed[..., : len(STAINS)].transpose(2, 0, 1)


class DensityScores(NamedTuple):
    """Densities of a stain in a reconstruction, beside those of the original.

    Args:
        original: mean density of the original.
        density: mean density of the reconstruction.
        error: absolute value of the bias, in percent.
        bias: ``density - original``, in percent of ``original``; None if the original does not contain the stain.
        difference: mean absolute difference over pixels.
        correlation: Pearson correlation over pixels; None if one of the images has the same density everywhere.
    """

    original: float
    density: float
    error: float | None
    bias: float | None
    difference: float
    correlation: float | None


def compare_densities(original: np.ndarray, reconstructed: np.ndarray) -> DensityScores:
    """Compare the densities of one stain over all pixels.

    Pixels of background count too. They contain almost no stain, so that the bias hardly depends on their number. A
    mask of the original's tissue would: whatever blur moves from the tissue's border into the background would be
    missing.

    Shape:
        original, reconstructed: (H, W)
    Units: optical density.
    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> scores = compare_densities(np.array([[0.0, 0.4]]), np.array([[0.2, 0.4]]))
        >>> round(scores.bias), round(scores.difference, 3), round(scores.correlation, 3)
        (50, 0.1, 1.0)
    """
    if original.shape != reconstructed.shape:
        raise ShapeError("densities of one shape", f"{original.shape} and {reconstructed.shape}", "Crop the original.")
    before, after = float(original.mean()), float(reconstructed.mean())
    bias = 100 * (after - before) / before if before > _LEAST_DENSITY else None
    error = None if bias is None else abs(bias)
    correlation = None
    if min(np.ptp(original), np.ptp(reconstructed)) > _LEAST_DENSITY:
        correlation = float(np.corrcoef(original.ravel(), reconstructed.ravel())[0, 1])
    return DensityScores(before, after, error, bias, float(np.abs(reconstructed - original).mean()), correlation)


def color_shift(original: np.ndarray, reconstructed: np.ndarray) -> float:
    """Compute the CIEDE2000 color difference between the mean colors of two images.

    The mean is of sRGB values over all pixels, and is then converted to CIE Lab (D65). About 1 is the smallest
    difference that is seen between two patches side by side.

    Shape:
        original, reconstructed: (3, H, W), uint8

    Example:
        >>> color_shift(np.full((3, 2, 2), 200, np.uint8), np.full((3, 2, 2), 200, np.uint8))
        0.0
    """
    colors = (rgb2lab(image.mean((1, 2)) / 255) for image in (original, reconstructed))
    return float(deltaE_ciede2000(*colors))
