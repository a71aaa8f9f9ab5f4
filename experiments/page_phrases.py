"""Phrases with numbers that paragraphs of the pages have, made from files of scores (:mod:`experiments.check`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from experiments.page_sources import Source, number, one, phrases, select, signed
from experiments.page_tables import over_bicubic

_SCALES = (2, 3, 4)


def _unsigned(value: float) -> str:
    return f"{abs(value):.2f}"


def _form(sign: str) -> Callable[[float], str]:
    return signed if sign == "signed" else _unsigned


@phrases
def over_liif(main: Source, group: str, protocol: str, method: str, sign: str, *scales: str) -> list[str]:
    """Make mean differences to LIIF: ``+0.33 / +0.83 / +1.10``.

    Args:
        main: ``main.csv``.
        group: set of tiles.
        protocol: degradation and scores.
        method: network.
        sign: ``signed`` or ``unsigned``.
        scales: scale factors; 2, 3 and 4 by default.
    """
    of = {"by": "set", "group": group, "protocol": protocol, "method": method}
    found = [one(main, scale=float(scale), **of) for scale in scales or _SCALES]
    return [" / ".join(_form(sign)(number(row, "psnr_over_LIIF")) for row in found)]


@phrases
def apart(main: Source, group: str, method: str, other: str, *protocols: str) -> list[str]:
    """Make the smallest and largest difference of two networks at x2 to x4: ``0.2 to 0.6 dB``."""
    found = []
    for protocol in protocols:
        for scale in _SCALES:
            of = {"by": "set", "group": group, "protocol": protocol, "scale": scale}
            a, b = (number(one(main, method=name, **of), "psnr") for name in (method, other))
            found.append(abs(a - b))
    return [_span(found, 1)]


def _span(values: Iterable[float], digits: int) -> str:
    low, *_, high = sorted(values)
    return f"{low:.{digits}f} to {high:.{digits}f} dB"


@phrases
def below_bicubic(main: Source, scales: Source, method: str) -> list[str]:
    """Make the number of results, and the results below bicubic interpolation: ``x3.7 (-0.35 dB)``."""
    gains = [*over_bicubic(main, method), *over_bicubic(scales, method)]
    return [f"of {len(gains):,}", *(f"x{scale:g} ({signed(gain)} dB)" for gain, _, scale in gains if gain < 0)]


@phrases
def faithfulness(main: Source, scales: Source, method: str, *groups: str) -> list[str]:
    """Make limits over all tiles: of the PSNR of reduced results, the mean color, the displacement."""
    tiles = [row for rows in (main, scales) for row in select(rows, by="tile", method=method)]
    lowest = [min(number(row, "lr_psnr") for row in tiles if row["set"] == group) for group in groups]
    color, shift = (max(number(row, key) for row in tiles if row["set"] in groups) for key in ("color", "shift"))
    return [
        *(f"{math.floor(value * 10) / 10:.1f} dB" for value in lowest),
        f"within {_up(color, 2)} levels",
        f"{_up(shift, 3)} input pixels",
    ]


def _up(value: float, digits: int) -> str:
    return f"{math.ceil(round(value * 10**digits, 6)) / 10**digits:.{digits}f}"


@phrases
def tiles_below_liif(main: Source, group: str, protocol: str, method: str) -> list[str]:
    """Make the numbers of tiles below LIIF at x2, x3, x4, and the largest difference: ``21, 13 and 7 of 44``."""
    rows = select(main, by="tile", set=group, protocol=protocol)
    counts, worst = [], 0.0
    for scale in _SCALES:
        own, peer = (
            {row["group"]: number(row, "psnr") for row in select(rows, scale=scale, method=name)}
            for name in (method, "LIIF")
        )
        gains = [own[name] - peer[name] for name in own]
        counts.append(sum(gain < 0 for gain in gains))
        worst = min(worst, *gains)
    return ["{}, {} and {} of {} tiles".format(*counts, len(gains)), f"by {-worst:.2f} dB"]


@phrases
def slide_gain(scores: Source) -> list[str]:
    """Make the scores of a whole slide: ``PSNR over the tissue 31.01 dB instead of 30.00 (bicubic)``."""
    own, bicubic = (one(scores, area="all tissue", method=name) for name in ("monai-iste", "bicubic"))
    return [
        f"PSNR over the tissue {number(own, 'psnr'):.2f} dB instead of {number(bicubic, 'psnr'):.2f} (bicubic)",
        f"{number(own, 'count_error'):.2f} % instead of {number(bicubic, 'count_error'):.2f} %",
    ]


@phrases
def compressed(scores: Source, method: str, sign: str) -> list[str]:
    """Make the gains at JPEG quality 75 and 30: ``0.55 dB (x2) and 0.33 dB (x4)``, ``0.35 and 0.23 dB``."""
    form = _form(sign)
    a, b, c, d = (
        form(one(scores["rows"], weights=method, degradation=f"JPEG {quality}", scale=scale)["gain"])
        for quality in (75, 30)
        for scale in (2, 4)
    )
    return [f"{a} dB (x2) and {b} dB (x4)", f"{c} and {d} dB"]


@phrases
def led(differences: Source, *methods: str) -> list[str]:
    """Make the smallest and largest difference of PSNR between ISTE and other methods: ``0.12 to 0.26 dB``."""
    found = [[abs(number(r, "mean")) for r in select(differences, metric="psnr", other=name)] for name in methods]
    return [_span(values, 2) for values in found]


@phrases
def ahead(differences: Source, other: str, *scales: str) -> list[str]:
    """Make the smallest and largest lead of ISTE over a method at some scales: ``0.05 to 0.08 dB``."""
    found = [number(one(differences, metric="psnr", other=other, scale=float(scale)), "mean") for scale in scales]
    return [_span(found, 2)]


@phrases
def points(manifest: Source, setting: str, other: str) -> list[str]:
    """Make the smallest and largest lead of a setting of Table IV over another, by seed: ``0.7 to 1.8 points``."""
    scores = {(row["setting"], row["seed"]): row["accuracy"] for row in manifest["scores"]}
    return [f"{_leads(scores, setting, other, 1)} points"]


@phrases
def gland_leads(manifest: Source, setting: str, other: str) -> list[str]:
    """Make the smallest and largest lead in F1 of a setting of Table III over another, by seed: ``0.062 to 0.090``."""
    scores = {(row["name"], row["seed"]): row["testA"]["f1"] for row in manifest["scores"]}
    return [_leads(scores, setting, other, 3)]


def _leads(scores: Mapping[tuple[str, int], float], setting: str, other: str, digits: int) -> str:
    leads = [score - scores[other, seed] for (name, seed), score in scores.items() if name == setting]
    return f"{min(leads):.{digits}f} to {max(leads):.{digits}f}"


@phrases
def behind(rows: Source, others: Source, method: str, other: str) -> list[str]:
    """Make the smallest and largest PSNR that a method lacks to another: ``0.2 to 0.4 dB``."""
    own = {row["scale"]: number(row, "psnr") for row in select(rows, method=method)}
    lacking = [number(row, "psnr") - own[row["scale"]] for row in select(others, method=other)]
    return [_span(lacking, 1)]
