"""Statistics on cases with a known result."""

import itertools
import math
import random

import numpy as np
import pytest
from reference import assert_teaches
from scipy.stats import norm

from experiments.statistics import compare, mean_over_images, mean_over_seeds, paired_bootstrap
from monai_iste.errors import DataError

# --- intervals --------------------------------------------------------------------------------------------------------


def bca_of_all_draws(differences: list[float], level: float) -> tuple[float, float]:
    """Efron's interval from every one of the n^n equally likely draws."""
    n, mean = len(differences), sum(differences) / len(differences)
    means = sorted(sum(draw) / n for draw in itertools.product(differences, repeat=n))
    below = sum(m < mean - 1e-12 for m in means) + sum(abs(m - mean) <= 1e-12 for m in means) / 2
    z0 = norm.ppf(below / len(means))
    without = [(sum(differences) - d) / (n - 1) for d in differences]
    center = sum(without) / n
    skew = sum((center - w) ** 3 for w in without) / (6 * sum((center - w) ** 2 for w in without) ** 1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + norm.ppf(tail)
        ends.append(means[int(norm.cdf(z0 + z / (1 - skew * z)) * (len(means) - 1))])
    return ends[0], ends[1]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_is_efrons(level):
    differences = [0.02, 0.11, 0.05, 0.93, 0.31, -0.07]
    base = np.array([31.0, 24.0, 28.5, 35.0, 26.2, 30.1])
    interval = paired_bootstrap(base + differences, base, samples=20_000, level=level)
    low, high = bca_of_all_draws(differences, level)
    assert interval.mean == pytest.approx(sum(differences) / 6)
    assert interval.low == pytest.approx(low, abs=0.012)
    assert interval.high == pytest.approx(high, abs=0.012)
    # The plain percentiles are something else here.
    means = np.sort([np.mean(draw) for draw in itertools.product(differences, repeat=6)])
    assert np.quantile(means, (1 + level) / 2) < high - 0.02


def test_interval_of_many_normal_differences():
    generator = np.random.default_rng(0)
    base, difference = generator.normal(30, 4, 400), generator.normal(0.1, 0.5, 400)
    half = 1.96 * difference.std(ddof=1) / 20
    interval = paired_bootstrap(base + difference, base)
    assert interval.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(difference.mean() + half, abs=0.1 * half)
    wide = paired_bootstrap(generator.permutation(base + difference), base)  # paired wrongly
    assert wide.mean == pytest.approx(interval.mean)
    assert wide.high - wide.low > 5 * (interval.high - interval.low)


def test_as_many_intervals_hold_the_truth_as_they_promise():
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        a = generator.normal(0.3, 1, 40)
        interval = paired_bootstrap(a, np.zeros(40), samples=500, seed=trial, level=0.8)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.7 <= hits / 200 <= 0.88


def test_seeds_are_averaged_image_by_image():
    generator = np.random.default_rng(2)
    a, b = generator.normal(30, 2, (3, 25)), generator.normal(29, 2, (2, 25))
    assert paired_bootstrap(a, b) == paired_bootstrap(a.mean(0), b.mean(0))
    assert paired_bootstrap(a, b[0]) == paired_bootstrap(a.mean(0), b[:1])


def test_draws_are_those_of_the_seed():
    a, b = np.arange(12.0) ** 1.5, np.arange(12.0)
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)
    assert paired_bootstrap(a, b, seed=3) != paired_bootstrap(a, b, seed=4)
    there, back = paired_bootstrap(a, b, samples=50_000), paired_bootstrap(b, a, samples=50_000)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low), abs=0.1)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], ("(2,)", "(3,)")),
        ([1.0], [2.0], ("two images", "got 1")),
        ([1.0, math.inf], [1.0, 2.0], ("finite",)),
        ([1.0, 2.0], [math.nan, 2.0], ("finite",)),
        (1.0, 2.0, ("same images",)),
    ],
)
def test_scores_that_cannot_be_compared(a, b, words):
    with pytest.raises(DataError) as error:
        paired_bootstrap(a, b)
    assert_teaches(error.value, *words)


# --- comparisons and means over rows ----------------------------------------------------------------------------------


def image_rows() -> list[dict]:
    """Ten images, two scales; three seeds of iste, two of liif, one of edsr at x2 alone; in no order."""
    generator = np.random.default_rng(5)
    rows = []
    for method, gain, seeds in (("iste", 0.4, 3), ("liif", 0.1, 2), ("edsr", 0.0, 1)):
        for scale, image, seed in itertools.product((2, 4), range(10), range(seeds)):
            if method != "edsr" or scale == 2:
                psnr = 40 - 3 * scale + image + gain + generator.normal(0, 0.05)
                rows.append(
                    {
                        "method": method,
                        "scale": scale,
                        "image": f"{image}.png",
                        "seed": seed,
                        "psnr": psnr,
                        "ssim": psnr / 50,
                    }
                )
    random.Random(0).shuffle(rows)
    return rows


def test_methods_are_compared_image_by_image_at_every_scale():
    rows = image_rows()
    found = compare(rows, "iste", ["liif", "edsr", "lte"])
    assert [(c.metric, c.other, c.scale, c.images, c.seeds) for c in found] == [
        (metric, other, scale, 10, seeds)
        for metric in ("psnr", "ssim")
        for other, scale, seeds in (("liif", 2, 2), ("liif", 4, 2), ("edsr", 2, 1))
    ]

    def scores(method: str, scale: int, metric: str) -> list[float]:
        """Means over seeds, in order of the images."""
        return [
            np.mean([r[metric] for r in rows if (r["method"], r["scale"], r["image"]) == (method, scale, f"{i}.png")])
            for i in range(10)
        ]

    for c in found:
        a, b = (scores(method, c.scale, c.metric) for method in (c.method, c.other))
        expected = paired_bootstrap(a, b)
        assert c.difference.mean == pytest.approx(np.mean(a) - np.mean(b))
        assert tuple(c.difference) == pytest.approx(tuple(expected), rel=0.1)
    assert found[0].difference.low > 0.2


def test_rows_that_are_not_of_the_same_images():
    rows = image_rows()
    with pytest.raises(DataError) as error:
        compare([r for r in rows if (r["method"], r["image"]) != ("liif", "3.png")], "iste", ["liif"])
    assert_teaches(error.value, "iste and liif", "10 and 9", "x2")
    with pytest.raises(DataError) as error:
        compare([r for r in rows if (r["seed"], r["image"]) != (2, "3.png")], "iste", ["liif"])
    assert_teaches(error.value, "3.png without 2")
    with pytest.raises(DataError) as error:
        compare([{k: v for k, v in r.items() if k != "seed"} for r in rows], "iste", ["liif"])
    assert_teaches(error.value, "twice")


def test_means_over_images_then_over_seeds():
    rows = image_rows()
    of_images = mean_over_images([{**row, "fid": 7.0, "label": "L"} for row in rows])
    assert len(of_images) == 3 * 2 + 2 * 2 + 1
    means = {(row["method"], row["scale"]): row for row in mean_over_seeds(of_images)}
    assert len(means) == 5
    chosen = [r for r in rows if (r["method"], r["scale"]) == ("iste", 4)]
    of_seeds = [np.mean([r["psnr"] for r in chosen if r["seed"] == seed]) for seed in range(3)]
    row = means["iste", 4]
    assert row["psnr"] == pytest.approx(np.mean(of_seeds))
    center = np.mean(of_seeds)
    assert row["psnr_std"] == pytest.approx(math.sqrt(sum((s - center) ** 2 for s in of_seeds) / 2))
    assert (row["seeds"], row["images"], row["fid"], row["label"]) == (3, 10, 7.0, "L")
    assert (means["edsr", 2]["seeds"], means["edsr", 2]["psnr_std"]) == (1, None)
    assert not {"seed", "image"} & row.keys()
    lacking = mean_over_images([{**r, "fid": 7.0 if r["image"] != "3.png" else None} for r in rows])
    assert all("fid" not in row for row in (*lacking, *mean_over_seeds(lacking)))
