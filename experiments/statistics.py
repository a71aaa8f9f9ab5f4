"""Statistics of scores: bootstrap intervals of differences between methods, and means over images and seeds.

The input is the rows of ``metrics.json``: dictionaries with ``method``, ``scale``, ``psnr``, ``ssim`` and more. Rows of
one image have ``image``; rows of networks that were trained several times have ``seed``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

from monai_iste.errors import DataError

#: Keys that are averaged.
_SCORES = ("psnr", "ssim", "fid", "lr_psnr", "spectrum")

_BATCH_ELEMENTS = 2**20  # numbers that the bootstrap holds in memory


class Interval(NamedTuple):
    """Mean with its interval, in the unit of the averaged values."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    cases: Sequence[Hashable] | None = None,
) -> Interval:
    """Compute the mean difference a - b over images and its bootstrap interval.

    With the differences d_i = a_i - b_i of n images, the result is the mean of d and Efron's bias-corrected and
    accelerated (BCa) interval from ``samples`` draws of n images with replacement (:func:`scipy.stats.bootstrap`).
    Images differ from each other by several dB, methods on one image by tenths of a dB; the pairing removes the former.

    With several seeds, the scores of an image are averaged over them first. For a mean this equals drawing images and
    keeping all seeds. Seeds are not drawn, because two or three are too few; :func:`mean_over_seeds` gives their
    standard deviation. The interval therefore describes other images, for these trained networks. It is too narrow for
    few images, and for images that are not independent, such as crops of one slide. With ``cases`` given, whole cases
    are drawn instead of images: with the sum s_k of the differences and the number n_k of the images of case k, the
    mean of a draw is sum(s_k) / sum(n_k) over the cases drawn.

    Args:
        a: scores of one method.
        b: scores of the other method.
        samples: number of draws.
        seed: seed of the draws.
        level: confidence level.
        cases: case of every image, such as its patient; None if each image is a case of its own.
    Shape:
        a, b: (n,) or (seeds, n), the same images in the same order; the number of seeds may differ; cases: (n,)
    Raises:
        DataError: fewer than two images or cases, another number of them in b, or a score that is not finite.

    Example:
        >>> paired_bootstrap([31.0, 27.0, 35.0], [30.0, 26.0, 34.0])
        Interval(mean=1.0, low=1.0, high=1.0)
    """
    first, second = (np.asarray(values, np.float64) for values in (a, b))
    if not (first.ndim in (1, 2) and second.ndim in (1, 2)) or first.shape[-1] != second.shape[-1]:
        raise DataError(
            "the scores of two methods on the same images", f"shapes {first.shape} and {second.shape}", "Pair them."
        )
    if first.shape[-1] < 2 or not (first.size and second.size):
        raise DataError("at least two images to compare methods on", str(first.shape[-1]), "Score more images.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("scores that are finite", "inf or NaN", "Leave out images that a method reproduces exactly.")
    difference = np.atleast_2d(first).mean(0) - np.atleast_2d(second).mean(0)
    mean = float(difference.mean())
    if cases is not None:
        return _cluster_bootstrap(difference, cases, samples, seed, level)
    if np.allclose(difference, mean, rtol=0, atol=1e-12):  # BCa divides by the standard deviation
        return Interval(mean, mean, mean)
    low, high = bootstrap(
        (difference,),
        np.mean,
        n_resamples=samples,
        batch=max(1, _BATCH_ELEMENTS // len(difference)),
        confidence_level=level,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(low), float(high))


def _cluster_bootstrap(
    difference: np.ndarray, cases: Sequence[Hashable], samples: int, seed: int, level: float
) -> Interval:
    """Draw cases with all their images, see :func:`paired_bootstrap`."""
    if len(cases) != len(difference):
        raise DataError("the case of every image", f"{len(cases)} for {len(difference)} images", "Name each case.")
    grouped: dict[Hashable, list[float]] = {}
    for case, value in zip(cases, difference.tolist(), strict=True):
        grouped.setdefault(case, []).append(value)
    if len(grouped) == len(difference):
        return paired_bootstrap(difference, np.zeros_like(difference), samples, seed, level)
    if len(grouped) < 2:
        raise DataError("at least two cases to draw from", "one", "Score tiles of more cases.")
    sums = np.array([math.fsum(values) for values in grouped.values()])
    counts = np.array([len(values) for values in grouped.values()], np.float64)
    mean = float(difference.mean())
    if np.allclose(sums / counts, mean, rtol=0, atol=1e-12):
        return Interval(mean, mean, mean)
    low, high = bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        n_resamples=samples,
        batch=max(1, _BATCH_ELEMENTS // len(sums)),
        confidence_level=level,
        paired=True,
        vectorized=True,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(low), float(high))


class Comparison(NamedTuple):
    """Difference of two methods at one scale: ``method`` minus ``other``, in the unit of ``metric``."""

    method: str
    other: str
    scale: float
    metric: str
    difference: Interval
    images: int
    seeds: int
    cases: int | None = None


def compare(
    images: Iterable[Mapping[str, Any]],
    method: str,
    others: Sequence[str],
    metrics: Sequence[str] = ("psnr", "ssim"),
    samples: int = 10_000,
) -> list[Comparison]:
    """Compare one method with others by :func:`paired_bootstrap`, at every scale that both were scored at.

    If the rows have a ``case``, whole cases are drawn instead of images.

    Args:
        images: rows with ``method``, ``scale``, ``image`` and the metrics, ``seed`` if there are several, and ``case``
            if several images are of one.
        method: method to compare.
        others: methods to compare it with; those without rows are skipped.
        metrics: keys of the rows.
        samples: number of draws.
    Returns:
        the comparisons in the order of metric, other method and scale; ``seeds`` is the smaller number of the two,
        ``cases`` the number of cases.
    Raises:
        DataError: the methods, or two seeds, were scored on different images, or one image twice.

    Example:
        >>> scores = {"liif": (30.0, 26.0), "iste": (30.5, 26.5)}
        >>> rows = [{"method": m, "scale": 2, "image": i, "psnr": p} for m in scores for i, p in enumerate(scores[m])]
        >>> [(c.other, c.difference.mean, c.images) for c in compare(rows, "iste", ["liif", "lte"], ["psnr"])]
        [('liif', 0.5, 2)]
    """
    grouped: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in images:
        grouped.setdefault((row["method"], row["scale"]), []).append(row)
    scales = sorted({scale for name, scale in grouped if name == method})
    found = []
    for metric in metrics:
        for other in others:
            for scale in (scale for scale in scales if (other, scale) in grouped):
                a, b = (_by_image(grouped[name, scale], metric) for name in (method, other))
                if a.keys() != b.keys():
                    raise DataError(
                        f"{method} and {other} scored on the same images at x{scale:g}",
                        f"{len(a)} and {len(b)}, {len(a.keys() & b.keys())} of them the same",
                        "Evaluate both on one data set.",
                    )
                scores = [np.array([values[name] for name in a]).T for values in (a, b)]
                of_image = {row["image"]: row.get("case") for row in grouped[method, scale]}
                cases = None if None in of_image.values() else [of_image[image] for image in a]
                interval = paired_bootstrap(scores[0], scores[1], samples, cases=cases)
                seeds = min(len(part) for part in scores)
                count = None if cases is None else len(set(cases))
                found.append(Comparison(method, other, scale, metric, interval, len(a), seeds, count))
    return found


def _by_image(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[Any, list[float]]:
    """Group the scores by image, one for each seed."""
    scores: dict[Any, dict[Any, float]] = {}
    for row in rows:
        of_image = scores.setdefault(row["image"], {})
        if row.get("seed") in of_image:
            raise DataError(
                f"each image once for {row['method']} at x{row['scale']:g}",
                f"{row['image']} twice",
                "Give the rows of several trainings a seed each.",
            )
        of_image[row.get("seed")] = row[metric]
    seeds = {seed for of_image in scores.values() for seed in of_image}
    for image, of_image in scores.items():
        if of_image.keys() != seeds:
            raise DataError(
                f"every seed of {rows[0]['method']} scored on the same images",
                f"{image} without {', '.join(str(seed) for seed in sorted(seeds - of_image.keys(), key=str))}",
                "Evaluate all of them on one data set.",
            )
    return {image: list(of_image.values()) for image, of_image in scores.items()}


def mean_over_images(images: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average scores over images: one row for each method, note, scale and seed, with the number of images.

    Means are not rounded. A score that one image lacks is left out.

    Example:
        >>> rows = [{"method": "iste", "scale": 2, "image": i, "psnr": p} for i, p in (("a", 31.0), ("b", 33.0))]
        >>> mean_over_images(rows)
        [{'method': 'iste', 'scale': 2, 'psnr': 32.0, 'images': 2}]
    """
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in images:
        grouped.setdefault((row["method"], row.get("note"), row["scale"], row.get("seed")), []).append(row)
    return [
        {
            **{key: value for key, value in group[0].items() if key not in ("image", "case", *_SCORES)},
            **{score: mean for score in _SCORES if (mean := _mean(group, score)) is not None},
            "images": len(group),
        }
        for group in grouped.values()
    ]


def mean_over_cases(images: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average scores over the images and seeds of each case: one row for each method, scale and case.

    Example:
        >>> rows = [{"method": "iste", "scale": 2, "image": i, "case": i[0], "psnr": p} for i, p in
        ...         (("a1", 31.0), ("a2", 33.0), ("b1", 30.0))]
        >>> [(row["case"], row["images"], row["psnr"]) for row in mean_over_cases(rows)]
        [('a', 2, 32.0), ('b', 1, 30.0)]
    """
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in images:
        grouped.setdefault((row["method"], row["scale"], row["case"]), []).append(row)
    return [
        {
            **dict(zip(("method", "scale", "case"), place, strict=True)),
            "images": len({row["image"] for row in group}),
            "seeds": len({row.get("seed") for row in group}),
            **{score: mean for score in ("psnr", "ssim") if (mean := _mean(group, score)) is not None},
        }
        for place, group in grouped.items()
    ]


def _mean(rows: Sequence[Mapping[str, Any]], score: str) -> float | None:
    """Average a score; None if a row lacks it, because the mean of the others would not be comparable."""
    values = [row[score] for row in rows if row.get(score) is not None]
    return math.fsum(values) / len(values) if len(values) == len(rows) else None


def mean_over_seeds(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average scores over seeds: one row for each method, note and scale, with standard deviation and number of seeds.

    ``<score>_std`` is the standard deviation of one training (n - 1 in the denominator), None for a single seed. A
    score that one seed lacks is left out. Other keys are those of the first seed.

    Example:
        >>> rows = [{"method": "iste", "scale": 2, "seed": s, "psnr": p} for s, p in ((0, 31.0), (1, 33.0))]
        >>> row = mean_over_seeds(rows)[0]
        >>> row["psnr"], round(row["psnr_std"], 3), row["seeds"]
        (32.0, 1.414, 2)
    """
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["method"], row.get("note"), row["scale"]), []).append(row)
    return [_mean_row(group) for group in grouped.values()]


def _mean_row(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row = {key: value for key, value in group[0].items() if key not in ("seed", *_SCORES)}
    for score in _SCORES:
        mean = _mean(group, score)
        if mean is not None:
            row[score] = mean
            row[f"{score}_std"] = float(np.std([r[score] for r in group], ddof=1)) if len(group) > 1 else None
    return {**row, "seeds": len(group)}
