"""Tables of the pages about released weights, made from their files of scores (:mod:`experiments.check`)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from experiments.page_sources import Row, Source, interval, number, one, select, signed, table

#: Lines of a table, the header first.
Lines = list[list[str]]

_PROTOCOLS = ("iste-rgb", "bicubic-rgb")

#: Methods of the tables of quality, with the words of their lines.
_QUALITY = {
    "bicubic": "bicubic",
    "LIIF": "LIIF, its authors' weights",
    "iste_light": "iste_light (research only)",
    "iste_light2": "iste_light2",
    "iste_light2-told": "iste_light2, told the blur",
}

_EVALUATED = (2, 3, 4, 6, 8)
_OTHER_SCALES = (1.3, 2.5, 3.7, 4.9, 6.1, 7.3, 8)

#: Degradations of :mod:`benchmarks.robustness`, with the words of their lines.
_SCANS = {
    "blur_bicubic": "clean, with blur",
    "bicubic": "clean, bicubic alone",
    "area": "clean, mean over areas",
    "noise 2": "noise of 2 levels",
}


def _scales(scales: Iterable[float]) -> list[str]:
    return [f"x{scale:g}" for scale in scales]


def over_bicubic(rows: Sequence[Row], method: str) -> list[tuple[float, str, float]]:
    """Compute gains of a method over bicubic interpolation, tile by tile: (gain, tile, scale), smallest first."""
    keys = ("protocol", "group", "scale")
    bicubic = {tuple(row[key] for key in keys): row for row in select(rows, by="tile", method="bicubic")}
    return sorted(
        (
            number(row, "psnr") - number(bicubic[tuple(row[key] for key in keys)], "psnr"),
            row["group"],
            number(row, "scale"),
        )
        for row in select(rows, by="tile", method=method)
    )


# --- quality ----------------------------------------------------------------------------------------------------------


@table
def quality(main: Source, scales: Source, group: str, protocol: str, *methods: str) -> Lines:
    """Make PSNR and SSIM of a set of tiles, from the scores of :mod:`benchmarks.weights`.

    Args:
        main: scores at x2, x3 and x4.
        scales: scores at other scales; LIIF's are not among them.
        group: set of tiles.
        protocol: degradation and scores.
        methods: the methods of the table; all by default.
    """
    lines = [["PSNR dB / SSIM", *_scales(_EVALUATED)]]
    for method in methods or tuple(_QUALITY):
        cells = []
        for scale in _EVALUATED:
            of = main if scale in (2, 3, 4) else scales
            found = select(of, by="set", group=group, protocol=protocol, scale=scale, method=method)
            cells.append("".join(f"{number(row, 'psnr'):.2f} / {number(row, 'ssim'):.4f}" for row in found))
        lines.append([method if methods else _QUALITY[method], *cells])
    return lines


@table
def evaluation(images: Source, name: str) -> Lines:
    """Make PSNR and SSIM from the scores of the workflow ``evaluating``, with the gain over bicubic interpolation."""
    means = {
        (method, scale): [
            statistics.fmean(number(row, key) for row in select(images, method=method, scale=scale))
            for key in ("psnr", "ssim")
        ]
        for method in ("bicubic", "iste")
        for scale in _EVALUATED
    }
    lines = [["PSNR dB / SSIM", *_scales(_EVALUATED)]]
    for method, label in (("bicubic", "bicubic"), ("iste", name)):
        lines.append([label, *("{:.2f} / {:.4f}".format(*means[method, scale]) for scale in _EVALUATED)])
    return [*lines, ["gain dB", *(signed(means["iste", s][0] - means["bicubic", s][0]) for s in _EVALUATED)]]


@table
def liif(main: Source, group: str, method: str) -> Lines:
    """Make the difference to LIIF on a set of tiles, with intervals over cases."""
    lines = [["minus LIIF, dB (95 % over cases)", *_scales((2, 3, 4))]]
    for protocol in _PROTOCOLS:
        of = {"by": "set", "group": group, "protocol": protocol, "method": method}
        lines.append([protocol, *(interval(one(main, scale=scale, **of), "psnr_over_LIIF") for scale in (2, 3, 4))])
    return lines


@table
def told(main: Source, method: str, *groups: str) -> Lines:
    """Make what a network gains when it is told the blur of its input, and the tile that gains least."""
    lines = [["told minus not told, dB", "protocol", *(t for s in _scales((2, 3, 4)) for t in (s, "least"))]]
    for group in groups:
        for protocol in _PROTOCOLS:
            cells = []
            for scale in (2, 3, 4):
                of = {"by": "tile", "set": group, "protocol": protocol, "scale": scale}
                both = (select(main, method=name, **of) for name in (f"{method}-told", method))
                differences = [number(a, "psnr") - number(b, "psnr") for a, b in zip(*both, strict=True)]
                cells += [signed(statistics.fmean(differences)), signed(min(differences))]
            lines.append([group, protocol, *cells])
    return lines


@table
def cases(main: Source, group: str, method: str) -> Lines:
    """Make the gains over bicubic interpolation and over LIIF of every case of a set."""
    columns = [(protocol, scale) for protocol in _PROTOCOLS for scale in (2, 4)]
    lines = [["case", "tiles", *(f"{protocol} x{scale}" for protocol, scale in columns)]]
    for name in sorted({row["case"] for row in select(main, by="tile", set=group)}):
        found = [one(main, by="case", group=name, protocol=p, scale=s, method=method) for p, s in columns]
        cells = [" / ".join(signed(number(row, f"psnr_over_{o}")) for o in ("bicubic", "LIIF")) for row in found]
        lines.append([name, found[0]["tiles"], *cells])
    return lines


@table
def other_scales(scales: Source, group: str, method: str) -> Lines:
    """Make the gains over bicubic interpolation at every scale, with the tile that gains least."""
    lines = [["", *_scales(_OTHER_SCALES)]]
    for protocol in _PROTOCOLS:
        of = {"protocol": protocol, "method": method}
        rows = [one(scales, by="set", group=group, scale=scale, **of) for scale in _OTHER_SCALES]
        lines.append([protocol, *(signed(number(row, "psnr_over_bicubic")) for row in rows)])
        tiles = over_bicubic(select(scales, by="tile", set=group, protocol=protocol), method)
        smallest = [min(gain for gain, _, at in tiles if at == scale) for scale in _OTHER_SCALES]
        lines.append(["smallest", *map(signed, smallest)])
    return lines


@table
def gains(main: Source, nuclei_of: Source, cost_of: Source, group: str) -> Lines:
    """Make what is gained at x4: fidelity, nuclei and time of the released weights beside bicubic and LIIF."""
    methods = ("bicubic", "LIIF", "iste_light2")
    of = [one(main, by="set", group=group, protocol="iste-rgb", scale=4, method=method) for method in methods]
    nucleus = {m: one(nuclei_of, source="all", scale=4, method=m) for m in ("bicubic", "iste_light2")}
    counts = [f"{number(nucleus[m], 'count_error'):.1f} %" if m in nucleus else "" for m in methods]
    matched = [f"{number(nucleus[m], 'f1'):.3f}" if m in nucleus else "" for m in methods]
    time = {row["what"]: statistics.median(row["seconds_per_megapixel"]) for row in cost_of["rows"]}
    return [
        ["at x4", "bicubic", "LIIF, photographs", "iste_light2"],
        ["PSNR", *(f"{number(row, 'psnr'):.2f} dB" for row in of)],
        ["SSIM", *(f"{number(row, 'ssim'):.3f}" for row in of)],
        ["error of the nucleus count", *counts],
        ["nuclei matched one to one (F1)", *matched],
        ["processor time, relative", *(_rounded(time[method] / time["iste_light2"]) for method in methods)],
    ]


def _rounded(value: float) -> str:
    """Round to whole numbers, and what is below one to one digit.

    Example:
        >>> _rounded(12.8), _rounded(0.00522)
        ('13', '0.005')
    """
    return f"{value:.0f}" if value >= 1 else f"{value:.1g}"


# --- scans, nuclei, stains, cost --------------------------------------------------------------------------------------


@table
def robustness(scores: Source, *methods: str) -> Lines:
    """Make the gains on degraded scans, with the steps across the borders of blocks and of pixels.

    Args:
        scores: the JSON file of :mod:`benchmarks.robustness`.
        methods: the network of all columns; of a second one, the gain alone is shown.
    """
    first, *others = methods
    names = dict.fromkeys(row["degradation"] for row in scores["rows"])
    named = [*_SCANS, *(name for name in names if name not in _SCANS)]
    per_scale = ["gain", *(f"of {other}" for other in others), "blocks", "grid"]
    lines = [["scan", *(text for scale in (2, 4) for text in (f"x{scale} bicubic dB", *per_scale))]]
    for name in named:
        cells: list[str] = []
        for scale in (2, 4):
            own, *rest = (one(scores["rows"], weights=m, degradation=name, scale=scale) for m in (first, *others))
            cells += [f"{statistics.fmean(own['bicubic_psnr']):.2f}", *(signed(row["gain"]) for row in (own, *rest))]
            cells += [f"{own[key]:.2f} / {own['bicubic_' + key]:.2f}" for key in ("blockiness", "grid")]
        lines.append([_SCANS.get(name, name), *cells])
    return lines


@table
def cleaning(scores: Source, method: str) -> Lines:
    """Make the gains at scale 1 on noisy and compressed tiles, with the steps across the borders of JPEG blocks."""
    lines = [["scan", "input dB", "result dB", "gain", "blocks, result / input"]]
    for row in select(scores["rows"], weights=method, scale=1):
        means = [f"{statistics.fmean(row[key]):.2f}" for key in ("bicubic_psnr", "psnr")]
        blocks = f"{row['blockiness']:.2f} / {row['bicubic_blockiness']:.2f}"
        name = str(row["degradation"])
        lines.append([_SCANS.get(name, name), *means, signed(row["gain"]), blocks])
    return lines


@table
def lower(*arguments: Source) -> Lines:
    """Make the gains on tiles that were reduced first, from one JSON file of :mod:`benchmarks.robustness` a factor."""
    *files, weights = arguments
    lines = [["reduced by", "scan", *(text for scale in (2, 4) for text in (f"x{scale} bicubic dB", "gain"))]]
    for scores in files:
        for name in ("blur_bicubic", "bicubic", "JPEG 75"):
            found = [one(scores["rows"], weights=weights, degradation=name, scale=scale) for scale in (2, 4)]
            pairs = [(f"{statistics.fmean(row['bicubic_psnr']):.2f}", signed(row["gain"])) for row in found]
            lines.append([f"{found[0]['lower']:g}", _SCANS.get(name, name), *(text for pair in pairs for text in pair)])
    return lines


@table
def slide(scores: Source) -> Lines:
    """Make the summary of :mod:`benchmarks.slide_quality`."""
    form = {
        "area": "{}",
        "method": "{}",
        "blocks": "{}",
        "megapixels": "{:.1f}",
        "psnr": "{:.2f}",
        "ssim": "{:.4f}",
        "there": "{}",
        "found": "{}",
        "count_error": "{:.2f} %",
        "bias": "{:+.2f} %",
        "f1": "{:.4f}",
    }
    head = "area|method|blocks|tissue, megapixels|PSNR dB|SSIM|nuclei of the slide|found|count error|bias|F1"
    rows = [row for row in scores if row["area"] != "block"]
    cells = [[text.format(number(row, key) if "f" in text else row[key]) for key, text in form.items()] for row in rows]
    return [head.split("|"), *cells]


@table
def nuclei(*arguments: Source) -> Lines:
    """Make errors of counts and F1: files of ``experiments nuclei``, then the words of their tiles ("" for none)."""

    def cells(rows: Source, method: str, scale: int) -> list[str]:
        row = one(rows, source="all", scale=scale, method=method)
        return [f"{number(row, 'count_error'):.2f} %", f"{number(row, 'f1'):.3f}"]

    return [["", "x2 count error", "F1", "x4 count error", "F1"], *_lines_by_method(arguments, cells)]


@table
def stains(*arguments: Source) -> Lines:
    """Make errors, biases and correlations of stain densities, and Delta E; arguments as for ``nuclei``."""

    def cells(rows: Source, method: str, scale: int) -> list[str]:
        of = {"source": "all", "scale": scale, "method": method}
        found = [one(rows, stain=stain, **of) for stain in ("hematoxylin", "eosin")]
        pairs = [
            (f"{number(row, 'error'):.2f} % ({signed(number(row, 'bias'))})", f"{number(row, 'correlation'):.3f}")
            for row in found
        ]
        return [*(text for pair in pairs for text in pair), f"{number(found[0], 'delta_e'):.3f}"]

    heads = ("H error (bias)", "H correlation", "E error (bias)", "E correlation", "Delta E")
    header = [text for scale in _scales((2, 4)) for text in (f"{scale} {heads[0]}", *heads[1:])]
    return [["", *header], *_lines_by_method(arguments, cells)]


def _lines_by_method(arguments: Sequence[Source], cells: Callable[[Source, str, int], list[str]]) -> Lines:
    """Make a line for every method of every file, with cells at x2 and x4.

    Args:
        arguments: files, then as many words that name their tiles.
        cells: makes the cells of a file, a method and a scale.
    """
    half = len(arguments) // 2
    lines = []
    for rows, name in zip(arguments[:half], arguments[half:], strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            label = f"{name}, {method}" if name else method
            lines.append([label, *(text for scale in (2, 4) for text in cells(rows, method, scale))])
    return lines


@table
def mesh(scores: Source) -> Lines:
    """Make the energy that is added to smooth patches, from the scores of :mod:`benchmarks.mesh`."""
    head = ["scale", "method", "tiles", "patches", "rms, levels", "energy over bicubic's"]
    lines = [[*head, "added, levels^2", "worst patch, levels"]]
    for row in select(scores, by="all"):
        rms, ratio, worst = f"{number(row, 'rms'):.3f}", f"{number(row, 'ratio'):.2f}", f"{number(row, 'worst'):.2f}"
        counts = [row["tiles"], row["patches"]]
        scale = f"x{number(row, 'scale'):g}"
        lines.append([scale, row["method"], *counts, rms, ratio, signed(number(row, "added"), 4), worst])
    return lines


@table
def cost(scores: Source) -> Lines:
    """Make seconds and quality from the JSON file of :mod:`benchmarks.quality_cost`."""
    lines = [["network", "parameters, M", "s/megapixel", "tiles timed", "PSNR dB", "SSIM"]]
    for row in scores["rows"]:
        seconds = row["seconds_per_megapixel"]
        some = f" ({min(seconds):.3g}-{max(seconds):.3g})" if len(seconds) > 1 else ""
        timed = [f"{statistics.median(seconds):.3g}{some}", str(len(seconds))]
        scores = ["no weights", ""]
        if row["psnr"]:
            scores = [f"{statistics.fmean(row['psnr']):.2f}", f"{statistics.fmean(row['ssim']):.4f}"]
        lines.append([row["what"], f"{row['parameters'] / 1e6:.2f}", *timed, *scores])
    return lines
