"""Seconds per image, in total and by module, beside the literal network and the networks ISTE competes with.

python -m benchmarks.speed --presets iste_small --sizes 48 --scales 4
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from torch import Tensor, nn

from benchmarks import common
from benchmarks.common import Clock, Measurement, Row
from benchmarks.naive import NaiveISTE, similarity_bytes
from benchmarks.peers import AuthorsNetwork
from monai_iste import DEFAULT_PRESET
from monai_iste.coordinates import nearest_pixel, output_size, pixel_centers
from monai_iste.networks import ISTE, LIIF, LTE, Bicubic, self_texture_fusion
from monai_iste.networks import tuning as limits
from monai_iste.networks.runtime import at_precision

__all__ = ["app", "speed"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ALL_KEYS = "ISTE, all keys"
OTHER_CORNERS = "ISTE, other corners"
NAIVE = "ISTE, literal"
#: Modules by the names of the paper's Figure 2.
MODULES = {
    "encoder": "encoder",
    "LFI": "local_feature_interactor",
    "TL": "texture_learner",
    "STF": "self_texture_fusion",
    "LPD": "local_pixel_decoder",
    "LTD": "local_texture_decoder",
}


@app.command()
def speed(
    presets: common.PresetsOption = f"iste,iste_small,{DEFAULT_PRESET}",
    sizes: Annotated[str, typer.Option("--sizes", help="Sides of the square images in pixels.")] = "48,96,256",
    scales: Annotated[str, typer.Option("--scales", help="Scale factors.")] = "2,3.7,4,8",
    precision: Annotated[str, typer.Option("--precision", help="fp32, bf16 or both.")] = "fp32",
    peer_repo: Annotated[
        list[Path] | None, typer.Option("--peer-repo", help="Checkout of LIIF or LTE; repeatable.")
    ] = None,
    naive_gb: common.NaiveGbOption = 6.0,
    baselines: common.BaselinesOption = True,
    repeats: common.RepeatsOption = 5,
    patience: common.PatienceOption = 20.0,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Time whole images, alternating between the networks."""
    now = common.clock(device, threads)
    kinds, rows = common.split_words(precision), []
    peaks = {kind: common.peak_macs(device, now, kind) for kind in kinds}
    for preset in common.split_words(presets):
        nets = _networks(preset, device, baselines, peer_repo or [])
        for kind in kinds:
            for side in common.split_numbers(sizes):
                for scale in common.split_numbers(scales):
                    case = {"preset": preset, "precision": kind, "lr": int(side), "scale": scale}
                    found = _case(nets, case, naive_gb, peaks[kind], now, repeats, patience, device)
                    rows += [{**case, **row} for row in found]
                    common.save("Speed", rows, device, json_file)
    common.report("Speed", rows, _format_row, device, json_file)
    common.report("Modules of ISTE", [row for row in rows if "modules" in row], _format_modules, device, None)
    return rows


def _networks(preset: str, device: str, baselines: bool, repositories: list[Path]) -> dict[str, nn.Module]:
    iste, all_keys = (common.load_preset(preset, device, inference_keys=keys) for keys in ("lattice", "all"))
    other = common.load_preset(
        preset, device, texture_corners="four" if iste.texture_neighbors is nearest_pixel else "nearest"
    )
    nets: dict[str, nn.Module] = {"ISTE": iste, OTHER_CORNERS: other, ALL_KEYS: all_keys, NAIVE: NaiveISTE(all_keys)}
    if baselines:
        nets |= {"bicubic": Bicubic(), "LIIF": LIIF(iste.encoder), "LTE": LTE(iste.encoder)}
    for repository in repositories:
        theirs = AuthorsNetwork(repository, iste.encoder)
        nets[theirs.title] = theirs
    return {name: net.to(device).eval() for name, net in nets.items()}


@torch.no_grad()
def _case(
    nets: dict[str, nn.Module],
    case: Row,
    naive_gb: float,
    peak: float,
    now: Clock,
    repeats: int,
    patience: float,
    device: str,
) -> list[Row]:
    """Measure one image at one scale: a row for every network."""
    scale, kind = case["scale"], case["precision"]
    image = (common.sample_tissue(case["lr"], case["lr"]).float() / 255).to(device)
    output = output_size((case["lr"], case["lr"]), scale)
    needed = similarity_bytes(output[0] * output[1], output[0] * output[1])
    left_out = {}
    if kind != "fp32":
        left_out[NAIVE] = "fp32 only"
    elif needed > naive_gb * 1e9:
        left_out = {NAIVE: f"would need {needed / 1e9:,.3g} GB", ALL_KEYS: "run where the literal network is"}
    calls = {
        name: partial(at_precision(net, kind), image, scale=scale) for name, net in nets.items() if name not in left_out
    }
    measured = common.time_alternating(calls, now, repeats, patience)

    rows = [_row(name, measured[name], measured, output, peak) for name in calls]
    rows[0]["modules"] = _modules(nets["ISTE"], calls["ISTE"], now)
    rows += [{"what": name, "note": note} for name, note in left_out.items()]
    for row in rows:
        if row["what"] == NAIVE and NAIVE in calls:
            row |= _against_literal(nets[ALL_KEYS], nets[NAIVE], image, scale, measured)
    return rows


def _row(name: str, own: Measurement, measured: dict[str, Measurement], output: tuple[int, int], peak: float) -> Row:
    pixels = output[0] * output[1]
    return {
        "what": name,
        "seconds": own.seconds,
        "seconds_per_megapixel": own.median / pixels * 1e6,
        "macs": own.macs,
        "share_of_peak": own.macs / own.median / peak,
        "peak_macs_per_second": peak,
        "times_iste": common.ratios(own, measured["ISTE"]),
    }


# --- the literal network against the library's ------------------------------------------------------------------------


def _against_literal(
    fast: nn.Module, literal: nn.Module, image: Tensor, scale: float, measured: dict[str, Measurement]
) -> Row:
    """Compare with the literal network: time, largest difference, and number of different retrievals."""
    difference = float((measured[ALL_KEYS].result - measured[NAIVE].result).abs().max())
    ratio = common.ratios(measured[NAIVE], measured[ALL_KEYS])
    expected, found = retrievals(fast, literal, image, scale)
    changed, distinct = int((expected != found).sum()), expected.unique().numel()
    return {
        "times_all_keys": ratio,
        "max_difference": difference,
        "changed_retrievals": changed,
        "distinct_keys": distinct,
        "note": f"{common.format_range(ratio)} x '{ALL_KEYS}'; max difference {difference:.1e}; "
        f"{changed} of {expected.numel():,} retrievals changed ({distinct} distinct keys)",
    }


@torch.no_grad()
def retrievals(fast: nn.Module, literal: nn.Module, image: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the key of every output pixel in the literal network, and of its nearest LR pixel in the fast one.

    Shape:
        returns two of (B, H * W)
    """
    assert isinstance(literal, NaiveISTE)
    with _recorded_retrieval() as retrieved:
        fast(image, scale=scale)
    size = (image.shape[2], image.shape[3])
    grid = pixel_centers(output_size(size, scale), image.device).expand(image.shape[0], -1, -1)
    found = retrieved[0].gather(1, nearest_pixel(grid, size).pixel[:, :, 0])
    return literal.with_retrieval(image, scale=scale)[1], found


@contextmanager
def _recorded_retrieval() -> Iterator[list[Tensor]]:
    """Record the indices that STF retrieves within the context, for all rows of the image at once."""
    retrieved: list[Tensor] = []
    search = self_texture_fusion.most_similar

    def recorder(*args: Any) -> Tensor:
        retrieved.append(search(*args))
        return retrieved[-1]

    with (
        mock.patch.object(self_texture_fusion, "most_similar", recorder),
        mock.patch.object(limits, "MAX_FUSION_PIXELS", 2**62),
    ):
        yield retrieved


# --- module by module -------------------------------------------------------------------------------------------------


def _modules(net: nn.Module, call: Callable[[], Any], now: Clock) -> dict[str, float]:
    """Time one more run by module; "rest" is the time between modules."""
    assert isinstance(net, ISTE)
    with _timed_modules(net, now) as seconds:
        start = now()
        call()
        total = now() - start
    return {**seconds, "rest": total - sum(seconds.values()), "total": total}


@contextmanager
def _timed_modules(net: ISTE, now: Clock) -> Iterator[dict[str, float]]:
    """Record the seconds inside every module within the context; a call inside another counts only once."""
    seconds = {label: 0.0 for label, name in MODULES.items() if getattr(net, name, None) is not None}
    inner: list[float] = []  # seconds of nested calls, per active call

    def timed(label: str, method: Callable) -> Callable:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = now()
            inner.append(0.0)
            try:
                return method(*args, **kwargs)
            finally:
                taken = now() - start
                seconds[label] += taken - inner.pop()
                if inner:
                    inner[-1] += taken

        return wrapper

    wrapped: list[tuple[nn.Module, str]] = []
    for label in seconds:
        box = getattr(net, MODULES[label])
        for module in [box] if label == "encoder" else box.modules():  # submodules may be called directly
            for name in _methods(module):
                setattr(module, name, timed(label, getattr(module, name)))
                wrapped.append((module, name))
    try:
        yield seconds
    finally:
        for module, name in wrapped:
            delattr(module, name)


def _methods(module: nn.Module) -> list[str]:
    """List ``forward`` and the other public methods that the library's classes define."""
    own = [cls for cls in type(module).__mro__ if cls.__module__.startswith("monai_iste")]
    return sorted(
        {"forward"} | {name for cls in own for name, it in vars(cls).items() if name[0] != "_" and callable(it)}
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _format_row(row: Row) -> Row:
    shown = {
        "preset": row["preset"],
        "precision": row["precision"],
        "LR": row["lr"],
        "scale": f"x{row['scale']:g}",
        "what": row["what"],
    }
    if "seconds" in row:
        shown |= {
            "seconds": common.format_range(row["seconds"]),
            "runs": len(row["seconds"]),
            "s/megapixel": f"{row['seconds_per_megapixel']:.3g}",
            "GMAC": f"{row['macs'] / 1e9:.3g}",
            "of peak": f"{row['share_of_peak']:.2f}",
            "x ISTE": common.format_range(row["times_iste"]),
        }
    return {**shown, "note": row.get("note", "")}


def _format_modules(row: Row) -> Row:
    total = row["modules"]["total"]
    shares = {name: f"{taken:.3g} s ({taken / total:.0%})" for name, taken in row["modules"].items()}
    return {
        "preset": row["preset"],
        "precision": row["precision"],
        "LR": row["lr"],
        "scale": f"x{row['scale']:g}",
        **shares,
    }


if __name__ == "__main__":
    common.run(app)
