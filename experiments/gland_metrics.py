"""How well glands are told apart: detection F1, object Dice and object Hausdorff distance of the GlaS challenge.

Three choices that ports of the challenge's program make differently, and what is done here:

* *Half a gland is enough.* A segmented object is a true positive from 50 % of its gland on, as the challenge's page
  says ("at least 50%"); a widely used port asks for more than 50 %.
* *The objects of the whole set are pooled.* F1 comes from the counts over all images, and the areas that weight an
  object are shares of the objects of all images, as the page defines them. Means of scores per image, which papers also
  print, are other numbers.
* *Distances are between sets of pixels*, inner ones included. For a disc inside a ring they differ from distances
  between outlines.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_iste.errors import DataError, ShapeError


class GlandScores:
    """The three scores of a set of images: :meth:`add` one after the other, then read them.

    ``F1 = 2 TP / (2 TP + FP + FN)``. A segmented object belongs to the gland that it overlaps most (the lower label of
    two equals). It is a true positive if it covers at least half of that gland, and otherwise a false positive; a gland
    without a true positive is a false negative.

    ``object Dice = (sum_i w_i Dice(S_i, G(S_i)) + sum_j v_j Dice(G_j, S(G_j))) / 2`` over the segmented objects S_i,
    each with the gland that it overlaps most, and over the glands G_j, each with the object that it overlaps most.
    Weights are areas as shares of all objects of that kind; an object that overlaps none counts 0.

    ``object Hausdorff`` is the same sum over Hausdorff distances. An object that overlaps none is paired with the one
    that is nearest by that distance, in the same image. If the image has none, the definition has no value (infinity in
    the challenge's program, which would erase all other images): here it is the image's diagonal, the largest distance
    that two of its pixels can have.

    Implements the evaluation of the GlaS challenge: Sirinukunwattana et al., arXiv:1603.00275, and its page.
    Differs from it: the last sentence above.

    Units: distances in pixels.

    Example:
        >>> scores = GlandScores()
        >>> scores.add(np.array([[1, 0, 0, 0, 0]]), truth=np.array([[1, 1, 0, 2, 2]]))
        >>> round(scores.f1, 4), round(scores.object_dice, 4), scores.object_hausdorff
        (0.6667, 0.5, 1.75)
    """

    def __init__(self) -> None:
        self.images = self.true_positives = self.false_positives = self.false_negatives = 0
        # Per kind of object, segmented and true: area, area * Dice, area * distance, summed over the set.
        self._sums = np.zeros((2, 3))

    def add(self, segmented: np.ndarray, truth: np.ndarray) -> None:
        """Count one image.

        Args:
            segmented: a label for every object, 0 for background. truth: the same for the glands. A label is one
                object, in one piece or in several.
        Shape:
            both (H, W), integers of at least 0.
        Raises:
            ShapeError: they are not two label maps of one size.
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
        """Detection F1, 0 to 1; 1 where there is nothing and nothing was segmented."""
        self._require_images()
        hits, faults = 2 * self.true_positives, self.false_positives + self.false_negatives
        return hits / (hits + faults) if hits + faults else 1.0

    @property
    def object_dice(self) -> float:
        """Object Dice, 0 to 1; 1 where there is nothing and nothing was segmented, 0 where one of the two is empty."""
        self._require_images()
        return self._mean(1) if self._sums[:, 0].any() else 1.0

    @property
    def object_hausdorff(self) -> float:
        """Object Hausdorff distance in pixels; 0 where there is nothing and nothing was segmented."""
        self._require_images()
        return self._mean(2)

    def _mean(self, which: int) -> float:
        """Half the weighted sums over both kinds of objects; one that the whole set lacks is left out."""
        present = self._sums[:, 0] > 0
        return float((self._sums[present, which] / self._sums[present, 0]).mean()) if present.any() else 0.0

    def _require_images(self) -> None:
        if not self.images:
            raise DataError("at least one image to score", "none", "Add label maps first.")

    def as_dict(self) -> dict[str, float]:
        """``f1``, ``object_dice`` and ``object_hausdorff``.

        Raises:
            DataError: no image was added.
        """
        return {"f1": self.f1, "object_dice": self.object_dice, "object_hausdorff": self.object_hausdorff}


def gland_f1(segmented: np.ndarray, truth: np.ndarray) -> float:
    """Detection F1 of one image, see :class:`GlandScores`.

    Shape:
        both (H, W), integers of at least 0.

    Example:
        >>> gland_f1(np.array([[1, 0, 2, 2]]), np.array([[3, 3, 0, 0]]))
        0.6666666666666666
    """
    return _score_pair(segmented, truth).f1


def object_dice(segmented: np.ndarray, truth: np.ndarray) -> float:
    """Object Dice of one image, see :class:`GlandScores`.

    Shape:
        both (H, W), integers of at least 0.

    Example:
        >>> object_dice(np.array([[1, 0]]), np.array([[1, 1]]))
        0.6666666666666666
    """
    return _score_pair(segmented, truth).object_dice


def object_hausdorff(segmented: np.ndarray, truth: np.ndarray) -> float:
    """Object Hausdorff distance of one image in pixels, see :class:`GlandScores`.

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
    """The same objects in the same order as 0, 1, 2, ...; background stays 0."""
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
    """For each row the column that is largest, the first of equals; -1 where all are 0 or there is none."""
    if not overlap.size:
        return np.full(len(overlap), -1)
    best = overlap.argmax(1)
    return np.where(overlap.max(1) > 0, best, -1)


def _directed_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For every object of a and of b: the largest distance from a pixel of b's to the nearest pixel of a's.

    One Euclidean distance transform per object of a answers for all objects of b.

    Shape:
        both (H, W), labels 0, 1, ..., n; returns (objects of a, objects of b)
    """
    result = np.zeros((int(a.max()), int(b.max())))
    if not result.size:
        return result
    pixels = np.flatnonzero(b)
    pixels = pixels[np.argsort(b.ravel()[pixels], kind="stable")]  # object after object
    starts = np.searchsorted(b.ravel()[pixels], np.arange(1, result.shape[1] + 1))
    for label in range(1, len(result) + 1):
        distance = ndimage.distance_transform_edt(a != label)
        result[label - 1] = np.maximum.reduceat(distance.ravel()[pixels], starts)
    return result


def _weighted_sums(
    overlap: np.ndarray, area: np.ndarray, other: np.ndarray, distance: np.ndarray, diagonal: float
) -> tuple[float, float, float]:
    """Sums over one kind of object: area, area * Dice, area * Hausdorff distance.

    Args:
        overlap: pixels that each object shares with each object of the other kind. area, other: those of either kind.
        distance: between each object and each of the other kind. diagonal: the distance where there is no other.
    """
    rows, partner = np.arange(len(area)), _best_match(overlap)
    if not len(other):
        return float(area.sum()), 0.0, float(area.sum() * diagonal)
    # Of -1, for none, the last column is taken and then replaced.
    dice = np.where(partner < 0, 0, 2 * overlap[rows, partner] / (area + other[partner]))
    distances_to_match = np.where(partner < 0, distance.min(1), distance[rows, partner])
    return float(area.sum()), float((area * dice).sum()), float((area * distances_to_match).sum())
