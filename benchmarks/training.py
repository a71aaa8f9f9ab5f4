"""Seconds per training step (forward, backward, Adam), beside the literal network, LIIF and LTE.

python -m benchmarks.training --presets iste_light
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from benchmarks import common
from benchmarks.common import Row
from benchmarks.naive import NaiveISTE, similarity_bytes
from monai_iste import DEFAULT_PRESET
from monai_iste.networks import LIIF, LTE

__all__ = ["app", "training"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

NAIVE = "ISTE, literal"


@app.command()
def training(
    presets: common.PresetsOption = DEFAULT_PRESET,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per step.")] = 16,
    lr_size: Annotated[int, typer.Option("--lr-size", min=1, help="Side of the images in pixels.")] = 48,
    points: Annotated[int, typer.Option("--points", min=1, help="Sampled coordinates per image.")] = 2304,
    scale: Annotated[float, typer.Option("--scale", help="Scale factor; it does not change the time.")] = 2.5,
    naive_gb: common.NaiveGbOption = 3.0,
    baselines: common.BaselinesOption = True,
    repeats: common.RepeatsOption = 5,
    patience: common.PatienceOption = 20.0,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Time training steps, alternating between the networks."""
    now = common.clock(device, threads)
    rows = []
    for preset in common.split_words(presets):
        iste = common.load_preset(preset, device)
        nets: dict[str, nn.Module] = {"ISTE": iste}
        needed = similarity_bytes(4 * points, points, batch)
        if needed <= naive_gb * 1e9:
            nets[NAIVE] = NaiveISTE(deepcopy(iste))
        if baselines:
            nets |= {"LIIF": LIIF(deepcopy(iste.encoder)), "LTE": LTE(deepcopy(iste.encoder))}
        steps = {name: _step(net.to(device), batch, lr_size, points, scale) for name, net in nets.items()}
        measured = common.time_alternating(steps, now, repeats, patience)
        case = {"preset": preset, "batch": batch, "lr": lr_size, "points": points}
        for name, own in measured.items():
            row = {"what": name, "seconds": own.seconds, "macs": own.macs, "first_loss": own.result}
            rows.append({**case, **row, "times_iste": common.ratios(own, measured["ISTE"])})
        if NAIVE not in nets:
            rows.append({**case, "what": NAIVE, "note": f"would need {needed / 1e9:,.3g} GB and its gradient"})
    common.report("Training step", rows, _format_row, device, json_file)
    return rows


def _step(network: nn.Module, batch: int, lr_size: int, points: int, scale: float) -> Callable[[], float]:
    """Create a step on fixed images and coordinates; the step returns its loss."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    image, coord = random(batch, 3, lr_size, lr_size), random(batch, points, 2) * 2 - 1
    cell, target = torch.full((batch, 2), 2 / scale, device=device), random(batch, points, 3)
    network.train()
    return partial(_train, network, torch.optim.Adam(network.parameters(), 1e-4), image, coord, cell, target)


def _train(
    network: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, coord: Tensor, cell: Tensor, target: Tensor
) -> float:
    optimizer.zero_grad()
    loss = F.l1_loss(network(image, coord=coord, cell=cell), target)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _format_row(row: Row) -> Row:
    shown = {
        "preset": row["preset"],
        "batch": f"{row['batch']} x {row['lr']}x{row['lr']}, {row['points']} points",
        "what": row["what"],
    }
    if "seconds" in row:
        shown |= {
            "seconds a step": common.format_range(row["seconds"]),
            "runs": len(row["seconds"]),
            "GMAC": f"{row['macs'] / 1e9:.3g}",
            "x ISTE": common.format_range(row["times_iste"]),
        }
    return {**shown, "note": row.get("note", "")}


if __name__ == "__main__":
    common.run(app)
