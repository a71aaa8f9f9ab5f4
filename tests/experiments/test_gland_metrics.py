"""GlaS metrics against values worked out by hand and against loops over objects and pixels."""

import math

import numpy as np
import pytest

from experiments.gland_metrics import GlandScores, gland_f1, object_dice, object_hausdorff
from monai_iste.errors import DataError, ShapeError

EMPTY = np.zeros((6, 9), int)


def boxes(*corners: tuple[int, int, int, int], shape: tuple[int, int] = (6, 9)) -> np.ndarray:
    """A label map of rectangles (top, left, bottom, right), labeled 1, 2, ... ; later ones lie on top."""
    labels = np.zeros(shape, int)
    for label, (top, left, bottom, right) in enumerate(corners, start=1):
        labels[top:bottom, left:right] = label
    return labels


# --- the definition once more, as loops ---------------------------------------------------------------------------


def pixels(labels: np.ndarray, label: int) -> set[tuple[int, int]]:
    return {(int(y), int(x)) for y, x in zip(*np.nonzero(labels == label), strict=True)}


def objects(labels: np.ndarray) -> list[set[tuple[int, int]]]:
    return [pixels(labels, label) for label in sorted(set(labels.ravel().tolist()) - {0})]


def hausdorff(a: set, b: set) -> float:
    def directed(from_: set, to: set) -> float:
        return max(min(math.dist(p, q) for q in to) for p in from_)

    return max(directed(a, b), directed(b, a))


def partner(one: set, others: list[set]) -> set | None:
    """The first of the objects that share most pixels with one; None without overlap."""
    best = None
    for other in others:
        if len(one & other) > (len(one & best) if best is not None else 0):
            best = other
    return best


def reference(images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """F1, object Dice and object Hausdorff of a set, objects pooled over its images."""
    tp = fp = fn = 0
    kinds: list[list[tuple[int, float, float]]] = [[], []]  # area, Dice, distance of segmented and of true objects
    for segmented, truth in images:
        sides = (objects(segmented), objects(truth))
        found = []
        for s in sides[0]:
            g = partner(s, sides[1])
            if g is not None and len(s & g) >= 0.5 * len(g):
                tp += 1
                found.append(g)
            else:
                fp += 1
        fn += sum(all(g is not other for other in found) for g in sides[1])
        for kind in (0, 1):
            for one in sides[kind]:
                others = sides[1 - kind]
                other = partner(one, others)
                dice = 0.0 if other is None else 2 * len(one & other) / (len(one) + len(other))
                if other is not None:
                    distance = hausdorff(one, other)
                elif others:
                    distance = min(hausdorff(one, candidate) for candidate in others)
                else:
                    distance = math.hypot(truth.shape[0] - 1, truth.shape[1] - 1)
                kinds[kind].append((len(one), dice, distance))

    def weighted(which: int, empty: float) -> float:
        total = [sum(row[0] for row in kind) for kind in kinds]
        if not any(total):
            return empty
        halves = [sum(row[0] / total[k] * row[which] for row in kind) for k, kind in enumerate(kinds) if total[k]]
        return sum(halves) / len(halves)

    f1 = 1.0 if tp + fp + fn == 0 else 2 * tp / (2 * tp + fp + fn)
    return {"f1": f1, "object_dice": weighted(1, 1.0), "object_hausdorff": weighted(2, 0.0)}


def random_map(random: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Ellipses of all sizes anywhere, also across the border and over each other, with labels that leave gaps."""
    labels = np.zeros(shape, int)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for label in range(count):
        cy, cx = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        ry, rx = random.uniform(1, 5, 2)
        labels[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1] = 3 * label + 2
    return labels


def scores_of(images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    scores = GlandScores()
    for segmented, truth in images:
        scores.add(segmented, truth)
    return scores.as_dict()


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_the_loops(seed):
    random = np.random.default_rng(seed)
    images = []
    for _ in range(3):
        shape = (int(random.integers(8, 20)), int(random.integers(8, 20)))
        images.append(tuple(random_map(random, shape, int(random.integers(0, 6))) for _ in range(2)))
    assert scores_of(images) == pytest.approx(reference(images), abs=1e-12)


def test_one_image_has_functions():
    random = np.random.default_rng(0)
    s, t = (random_map(random, (20, 24), 6) for _ in range(2))
    expected = reference([(s, t)])
    assert gland_f1(s, t) == pytest.approx(expected["f1"], abs=1e-12)
    assert object_dice(s, t) == pytest.approx(expected["object_dice"], abs=1e-12)
    assert object_hausdorff(s, t) == pytest.approx(expected["object_hausdorff"], abs=1e-12)


# --- by hand ------------------------------------------------------------------------------------------------------


def test_a_shifted_box():
    s, t = boxes((0, 0, 2, 4)), boxes((0, 1, 2, 5))  # 8 pixels each, 6 shared, one pixel apart
    assert gland_f1(s, t) == 1
    assert object_dice(s, t) == pytest.approx(2 * 6 / 16)
    assert object_hausdorff(s, t) == 1


def test_half_a_gland_is_enough():
    t = boxes((0, 0, 2, 4))
    assert gland_f1(boxes((0, 0, 2, 2)), t) == 1  # 4 of 8 pixels
    three = boxes((0, 0, 1, 3))
    assert gland_f1(three, t) == 0  # 3 of 8: the object is false, the gland missed


def test_it_is_the_share_of_the_gland_that_counts_not_of_the_object():
    assert gland_f1(boxes((0, 0, 6, 9)), boxes((0, 0, 1, 2))) == 1
    assert gland_f1(boxes((0, 0, 1, 2)), boxes((0, 0, 6, 9))) == 0


def test_several_objects_on_one_gland():
    t = boxes((0, 0, 2, 6))
    s = boxes((0, 0, 2, 4), (0, 4, 2, 6))  # 8 and 4 of its 12 pixels
    assert gland_f1(s, t) == pytest.approx(2 * 1 / (2 * 1 + 1 + 0))
    # Objects: 8/12 * 2*8/(8+12) + 4/12 * 2*4/(4+12); the gland: 2*8/(8+12) with the larger one.
    assert object_dice(s, t) == pytest.approx((8 / 12 * 0.8 + 4 / 12 * 0.5 + 0.8) / 2)
    # Distances to the gland: 2 columns from the larger, 4 from the smaller; the gland's own is the larger's.
    assert object_hausdorff(s, t) == pytest.approx((8 / 12 * 2 + 4 / 12 * 4 + 2) / 2)
    halves = GlandScores()
    halves.add(boxes((0, 0, 2, 3), (0, 3, 2, 6)), t)
    assert (halves.true_positives, halves.false_positives, halves.false_negatives) == (2, 0, 0)


def test_one_object_on_several_glands():
    s, t = boxes((0, 0, 2, 7)), boxes((0, 0, 2, 4), (0, 4, 2, 7))  # belongs to the first, the second is missed
    assert gland_f1(s, t) == pytest.approx(2 / (2 + 0 + 1))
    assert object_dice(s, t) == pytest.approx((2 * 8 / 22 + 8 / 14 * 2 * 8 / 22 + 6 / 14 * 2 * 6 / 20) / 2)
    assert object_hausdorff(s, t) == pytest.approx((3 + 8 / 14 * 3 + 6 / 14 * 4) / 2)


def test_of_two_equal_overlaps_the_lower_label_counts():
    t = boxes((0, 0, 1, 2), (0, 2, 1, 6))
    s = boxes((0, 0, 1, 4))  # two pixels of each
    assert gland_f1(s, t) == pytest.approx(2 / (2 + 0 + 1))
    assert object_dice(s, t) == pytest.approx((2 * 2 / 6 + 2 / 6 * 2 * 2 / 6 + 4 / 6 * 2 * 2 / 8) / 2)
    swapped = np.where(t > 0, 3 - t, 0)  # the larger gland has the lower label now
    assert object_dice(s, swapped) == pytest.approx((2 * 2 / 8 + 2 / 6 * 2 * 2 / 6 + 4 / 6 * 2 * 2 / 8) / 2)


def test_an_object_that_overlaps_none_takes_the_nearest():
    t = boxes((0, 0, 1, 1), (0, 8, 1, 9))
    s = boxes((3, 8, 4, 9))  # three rows under the second; sqrt(9 + 64) from the first
    assert gland_f1(s, t) == 0
    assert object_dice(s, t) == 0
    assert object_hausdorff(s, t) == pytest.approx((3 + (math.sqrt(73) + 3) / 2) / 2)


def test_the_inside_counts_for_the_distance():
    """A disc in a ring: its farthest pixel from the ring is the center, which no outline has."""
    disc = boxes((1, 1, 6, 6), shape=(7, 7))
    ring = boxes((0, 0, 7, 7), shape=(7, 7))
    ring[1:6, 1:6] = 0
    assert object_hausdorff(disc, ring) == 3


def test_objects_at_the_border_are_like_any_other():
    inner = [boxes((4, 4, 7, 9), shape=(16, 16)), boxes((5, 4, 8, 8), shape=(16, 16))]
    corner = [labels[4:8, 4:9] for labels in inner]
    assert scores_of([tuple(corner)]) == pytest.approx(scores_of([tuple(inner)]))


@pytest.mark.parametrize(
    ("s", "t", "expected"),
    [
        (EMPTY, EMPTY, (1, 1, 0)),
        (boxes((0, 0, 2, 2)), EMPTY, (0, 0, math.hypot(5, 8))),
        (EMPTY, boxes((0, 0, 2, 2)), (0, 0, math.hypot(5, 8))),
    ],
)
def test_empty_maps(s, t, expected):
    assert (gland_f1(s, t), object_dice(s, t), object_hausdorff(s, t)) == pytest.approx(expected)


# --- sets of images, symmetry, errors -----------------------------------------------------------------------------


def test_the_objects_of_a_set_are_pooled():
    """A large and a small gland in two images: weights are areas over the set, not a mean over its images."""
    large, small = boxes((0, 0, 6, 6)), boxes((0, 0, 2, 2))
    missed = boxes((4, 7, 6, 9))
    pooled = scores_of([(large, large), (missed, small)])
    assert pooled["f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert pooled["object_dice"] == pytest.approx(36 / 40)
    assert pooled["object_hausdorff"] == pytest.approx(4 / 40 * math.hypot(4, 7))


def test_an_image_without_glands_does_not_erase_the_others():
    gland = boxes((0, 0, 2, 4))
    assert scores_of([(gland, gland), (EMPTY, EMPTY)]) == {"f1": 1, "object_dice": 1, "object_hausdorff": 0}
    spurious = scores_of([(gland, gland), (gland, EMPTY)])
    assert spurious["object_dice"] == pytest.approx((8 / 16 + 1) / 2)
    assert spurious["object_hausdorff"] == pytest.approx((8 / 16 * math.hypot(5, 8) + 0) / 2)


def test_dice_and_distance_do_not_care_which_map_is_the_truth():
    random = np.random.default_rng(1)
    s, t = (random_map(random, (30, 40), 7) for _ in range(2))
    assert object_dice(s, t) == pytest.approx(object_dice(t, s))
    assert object_hausdorff(s, t) == pytest.approx(object_hausdorff(t, s))


def test_nothing_depends_on_the_names_of_labels_or_the_orientation():
    random = np.random.default_rng(2)
    s, t = (random_map(random, (30, 40), 7) for _ in range(2))
    same = scores_of([(s, t)])
    assert scores_of([((s * 1000).astype(np.uint16), t.astype(np.uint8))]) == pytest.approx(same)
    assert scores_of([(s[::-1].T, t[::-1].T)]) == pytest.approx(same)


@pytest.mark.parametrize(
    ("s", "message"),
    [
        (EMPTY[:3], r"one size, got \(3, 9\) and \(6, 9\)"),
        (EMPTY - 1, r"at least 0, got \(6, 9\) of int64 from -1"),
        (EMPTY.astype(float), "of float64"),
        (EMPTY[None], r"got \(1, 6, 9\)"),
    ],
)
def test_invalid_label_maps_are_refused(s, message):
    with pytest.raises(ShapeError, match=message):
        gland_f1(s, EMPTY)


def test_no_image_has_no_score():
    with pytest.raises(DataError, match="at least one image to score, got none"):
        GlandScores().as_dict()
