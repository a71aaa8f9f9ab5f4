"""Gland segmentation metrics of the GlaS challenge: detection F1, object Dice and object Hausdorff distance.

Implementations of the challenge's program differ in three points. Here:

* A segmented object is a true positive if it covers at least 50 % of its gland, as the challenge's page says ("at least
  50%"). A widely used port requires more than 50 %.
* Objects are pooled over the whole set. F1 is computed from the counts over all images, and the area of an object is
  weighted by the area of all objects of all images, as the page defines it. Papers also print means of per-image
  scores, which are other numbers.
* Distances are between sets of pixels, inner pixels included. For a disc inside a ring they differ from distances
  between outlines.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_iste.errors import DataError, ShapeError


class GlandScores:
    """Accumulate the three GlaS scores over a set of images: call :meth:`add` per image, then read the scores.

    ``F1 = 2 TP / (2 TP + FP + FN)``. A segmented object is matched to the gland that it overlaps most (the lower label
    if two are equal). It is a true positive if it covers at least half of that gland, and otherwise a false positive. A
    gland without a true positive is a false negative.

    ``object Dice = (sum_i w_i Dice(S_i, G(S_i)) + sum_j v_j Dice(G_j, S(G_j))) / 2`` over the segmented objects S_i,
    each with the gland that it overlaps most, and over the glands G_j, each with the object that it overlaps most. The
    weight of an object is its area divided by the area of all objects of that kind. An object without overlap counts 0.

    ``object Hausdorff`` is the same sum over Hausdorff distances. An object without overlap is matched to the nearest
    object of the other kind by that distance, in the same image. If the image has none, the distance is the image's
    diagonal, the largest distance between two of its pixels.

    Implements the evaluation of the GlaS challenge: Sirinukunwattana et al., arXiv:1603.00275, and its page.
    Differs from it: the diagonal. The challenge's program has infinity there, which would hide all other images.

    Units: distances in pixels.

    Example:
        >>> scores = GlandScores()
        >>> scores.add(np.array([[1, 0, 0, 0, 0]]), truth=np.array([[1, 1, 0, 2, 2]]))
        >>> round(scores.f1, 4), round(scores.object_dice, 4), scores.object_hausdorff
        (0.6667, 0.5, 1.75)
    """

    def __init__(self) -> None:
        self.images = self.true_positives = self.false_positives = self.false_negatives = 0
        # Sums over the set, one row each for segmented objects and glands: area, area * Dice, area * distance.
        self._sums = np.zeros((2, 3))

    def add(self, segmented: np.ndarray, truth: np.ndarray) -> None:
        """Add one image.

        Args:
            segmented: label map of the segmented objects, 0 for background. A label is one object, even if it is in
                several pieces.
            truth: label map of the glands.
        Shape:
            both (H, W), integers of at least 0.
        Raises:
            ShapeError: the inputs are not two label maps of one size.
        """
        s, t = _relabel(segmented, "segmented"), _relabel(truth, "truth")
        if s.shape != t.shape:
            raise ShapeError("label maps of one size", f"{s.shape} and {t.shape}", "Segment the whole image.")
        rows, columns = int(s.max()) + 1, int(t.max()) + 1
        shared = np.bincount(s.ravel() * columns + t.ravel(), minlength=rows * columns).reshape(rows, columns)
        area_s, area_t, overlap = shared.sum(1)[1:], shared.sum(0)[1:], shared[1:, 1:]
        distance = np.maximum(_directed_distances(s, t), _directed_distances(t, s).T)
        diagonal = float(np.hypot(s.shape[0] - 1, s.shape[1] - 1))
        self._sums[0] += _weighted_sums(overlap, area_s, area_t, distance, diagonal)
        self._sums[1] += _weighted_sums(overlap.T, area_t, area_s, distance.T, diagonal)
        self._count(overlap, area_t)
        self.images += 1

    def _count(self, overlap: np.ndarray, area: np.ndarray) -> None:
        partner = _best_match(overlap)
        hits = np.array([g >= 0 and 2 * overlap[i, g] >= area[g] for i, g in enumerate(partner)], bool)
        self.true_positives += int(hits.sum())
        self.false_positives += int((~hits).sum())
        self.false_negatives += len(area) - len(set(partner[hits]))

    @property
    def f1(self) -> float:
        """Detection F1, 0 to 1; 1 if there are no glands and no segmented objects."""
        self._require_images()
        hits, faults = 2 * self.true_positives, self.false_positives + self.false_negatives
        return hits / (hits + faults) if hits + faults else 1.0

    @property
    def object_dice(self) -> float:
        """Object Dice, 0 to 1; 1 if there are no glands and no segmented objects, 0 if only one kind is missing."""
        self._require_images()
        return self._mean(1) if self._sums[:, 0].any() else 1.0

    @property
    def object_hausdorff(self) -> float:
        """Object Hausdorff distance in pixels; 0 if there are no glands and no segmented objects."""
        self._require_images()
        return self._mean(2)

    def _mean(self, which: int) -> float:
        """Average a weighted score over both kinds of objects; a kind without any object is left out."""
        present = self._sums[:, 0] > 0
        return float((self._sums[present, which] / self._sums[present, 0]).mean()) if present.any() else 0.0

    def _require_images(self) -> None:
        if not self.images:
            raise DataError("at least one image to score", "none", "Add label maps first.")

    def as_dict(self) -> dict[str, float]:
        """Return ``f1``, ``object_dice`` and ``object_hausdorff`` as a dictionary.

        Raises:
            DataError: no image was added.
        """
        return {"f1": self.f1, "object_dice": self.object_dice, "object_hausdorff": self.object_hausdorff}


def gland_f1(segmented: np.ndarray, truth: np.ndarray) -> float:
    """Compute the detection F1 of one image, see :class:`GlandScores`.

    Shape:
        both (H, W), integers of at least 0.

    Example:
        >>> gland_f1(np.array([[1, 0, 2, 2]]), np.array([[3, 3, 0, 0]]))
        0.6666666666666666
    """
    return _score_pair(segmented, truth).f1


def object_dice(segmented: np.ndarray, truth: np.ndarray) -> float:
    """Compute the object Dice of one image, see :class:`GlandScores`.

    Shape:
        both (H, W), integers of at least 0.

    Example:
        >>> object_dice(np.array([[1, 0]]), np.array([[1, 1]]))
        0.6666666666666666
    """
    return _score_pair(segmented, truth).object_dice


def object_hausdorff(segmented: np.ndarray, truth: np.ndarray) -> float:
    """Compute the object Hausdorff distance of one image in pixels, see :class:`GlandScores`.

    Shape:
        both (H, W), integers of at least 0.

    Example:
        >>> object_hausdorff(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 1, 0]]))
        2.0
    """
    return _score_pair(segmented, truth).object_hausdorff


def _score_pair(segmented: np.ndarray, truth: np.ndarray) -> GlandScores:
    scores = GlandScores()
    scores.add(segmented, truth)
    return scores


def _relabel(labels: np.ndarray, name: str) -> np.ndarray:
    """Relabel objects as 1, 2, ... in their order; background stays 0."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iub" or labels.min() < 0:
        raise ShapeError(
            f"a label map {name!r} of shape (H, W), integers of at least 0",
            f"{labels.shape} of {labels.dtype}" + (f" from {labels.min()}" if labels.size else ""),
            "Give every object a label of its own and the background 0.",
        )
    _, index = np.unique(np.append(0, labels.ravel()), return_inverse=True)
    return index[1:].reshape(labels.shape).astype(np.int64)


def _best_match(overlap: np.ndarray) -> np.ndarray:
    """Find the column with the largest value of each row (the first if equal); -1 if all are 0 or there are none."""
    if not overlap.size:
        return np.full(len(overlap), -1)
    best = overlap.argmax(1)
    return np.where(overlap.max(1) > 0, best, -1)


def _directed_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute, for each pair of objects, the largest distance from a pixel of b's to the nearest pixel of a's.

    One Euclidean distance transform per object of a covers all objects of b.

    Shape:
        both (H, W), labels 0, 1, ..., n; returns (objects of a, objects of b)
    """
    result = np.zeros((int(a.max()), int(b.max())))
    if not result.size:
        return result
    pixels = np.flatnonzero(b)
    pixels = pixels[np.argsort(b.ravel()[pixels], kind="stable")]  # sorted by object
    starts = np.searchsorted(b.ravel()[pixels], np.arange(1, result.shape[1] + 1))
    for label in range(1, len(result) + 1):
        distance = ndimage.distance_transform_edt(a != label)
        result[label - 1] = np.maximum.reduceat(distance.ravel()[pixels], starts)
    return result


def _weighted_sums(
    overlap: np.ndarray, area: np.ndarray, other: np.ndarray, distance: np.ndarray, diagonal: float
) -> tuple[float, float, float]:
    """Sum area, area * Dice and area * Hausdorff distance over the objects of one kind.

    Args:
        overlap: number of pixels in common, per object and object of the other kind.
        area: areas of the objects.
        other: areas of the objects of the other kind.
        distance: Hausdorff distances, per object and object of the other kind.
        diagonal: distance to use if there is no object of the other kind.
    """
    rows, partner = np.arange(len(area)), _best_match(overlap)
    if not len(other):
        return float(area.sum()), 0.0, float(area.sum() * diagonal)
    # Index -1 (no match) reads the last column; the result is then replaced.
    dice = np.where(partner < 0, 0, 2 * overlap[rows, partner] / (area + other[partner]))
    distances_to_match = np.where(partner < 0, distance.min(1), distance[rows, partner])
    return float(area.sum()), float((area * dice).sum()), float((area * distances_to_match).sum())
