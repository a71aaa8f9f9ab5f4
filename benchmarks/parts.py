"""Which parts of ISTE carry the image: quality of a network with one part switched off at inference.

python -m benchmarks.parts atlas=DIR --csv parts.csv
python -m benchmarks.parts DIR --weights mine=iste_light:FILE
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Row
from benchmarks.contenders import WeightsSpec, load
from benchmarks.tile_scores import score, super_resolve, tile_pair
from benchmarks.tile_sets import LABELS, Gain, describe_sets, gain_over_cases, tile_sets
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError
from monai_iste.metrics import get_protocol
from monai_iste.networks import ISTE
from monai_iste.networks.self_texture_fusion import SelfTextureFusion

__all__ = ["PARTS", "app", "parts"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

WHOLE = "whole network"


class _RandomRetrieval(SelfTextureFusion):
    """STF that retrieves any key, whatever the query; the keys are those of the image."""

    def __init__(self, fusion: SelfTextureFusion) -> None:
        nn.Module.__init__(self)
        self.mlp = fusion.mlp

    def retrieve(
        self, query: Tensor, keys: Tensor, source: Tensor | None = None, matrix: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        b, c, h, w = query.shape
        draws = torch.Generator().manual_seed(0)
        index = torch.randint(keys.shape[1], (b, h * w), generator=draws).to(keys.device)
        retrieved = torch.gather(keys, 1, index.unsqueeze(2).expand(-1, -1, c))
        rows = query.permute(0, 2, 3, 1).reshape(b, h * w, c)
        return index, retrieved, nn.functional.cosine_similarity(rows, retrieved, dim=-1)


def _without_choice(network: ISTE) -> None:
    network.self_texture_fusion = _RandomRetrieval(_fusion_of(network))


def _without_fusion(network: ISTE) -> None:
    _fusion_of(network)
    network.self_texture_fusion = None


def _without_texture_colors(network: ISTE) -> None:
    if network.local_texture_decoder is None:
        raise ConfigError("a network with a Local Texture Decoder", "none", "Choose another preset.")
    network.local_texture_decoder = None


def _without_pixel_colors(network: ISTE) -> None:
    last = [layer for layer in network.local_pixel_decoder.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _fusion_of(network: ISTE) -> SelfTextureFusion:
    if network.self_texture_fusion is None:
        raise ConfigError("a network with Self-Texture Fusion", "none", "Choose another preset.")
    return network.self_texture_fusion


#: Changes to a copy of a network, by name. The LFI is not among them: later layers read its values, not the features.
PARTS: dict[str, Callable[[ISTE], None]] = {
    WHOLE: lambda network: None,
    "STF retrieves a random texture": _without_choice,
    "without STF": _without_fusion,
    "without the colors of the texture branch": _without_texture_colors,
    "without the colors of the pixel branch": _without_pixel_colors,
}


@app.command()
def parts(
    folders: common.TilesArgument,
    weights: Annotated[str, typer.Option("--weights", help="NAME=PRESET:FILE, or PRESET=released.")] = (
        f"{DEFAULT_PRESET}=released"
    ),
    protocols: Annotated[str, typer.Option("--protocols", help="Protocols of the reduction.")] = "iste-rgb,bicubic-rgb",
    scales: Annotated[str, typer.Option("--scales", help="Scale factors.")] = "2,4",
    crop: common.CropOption = 192,
    images: common.ImagesOption = None,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
    csv_file: common.CsvOption = None,
) -> list[Row]:
    """Score every tile with every part switched off, without training again."""
    common.check_results(json_file, csv_file)
    common.clock(device, threads)
    contender = load(WeightsSpec.parse(weights), device)
    if not isinstance(contender.network, ISTE):
        raise ConfigError("weights of ISTE", contender.preset or "", "Choose one of its presets.")
    networks = {name: _changed(contender.network, change) for name, change in PARTS.items()}
    items, names = tile_sets(folders, images), common.split_words(protocols)
    about = {**describe_sets(items, names), "weights": contender.describe(), "crop": crop}
    rows: list[Row] = []
    for name in names:
        for scale in common.split_numbers(scales):
            case = {"protocol": name, "scale": scale}
            for item in tqdm(items, desc=f"{name} x{scale:g}", mininterval=2):
                rows += [{**case, **row} for row in _tile(networks, item, name, scale, crop, device)]
            common.save("Parts", rows, device, json_file, about)
    found = summaries(rows)
    common.report("Parts", found, _format_row, device, None)
    common.save_csv(found, csv_file)
    return rows


def _changed(network: ISTE, change: Callable[[ISTE], None]) -> ISTE:
    network = copy.deepcopy(network)
    change(network)
    return network.eval()


def _tile(networks: dict[str, ISTE], item: Row, name: str, scale: float, crop: int | None, device: str) -> list[Row]:
    """Score one tile with every network; ``difference`` is to the whole one, mean and in 8-bit levels."""
    protocol = get_protocol(name)
    pair = tile_pair(str(item["image"]), protocol, scale, crop)
    found, whole = [], torch.empty(0)
    for part, network in networks.items():
        pred = super_resolve(network, pair, device).cpu()
        whole = pred if part == WHOLE else whole
        difference = 255 * float((pred - whole).abs().mean())
        psnr = score(pred, pair, protocol)["psnr"]
        labels = {label: item[label] for label in LABELS}
        found.append({"part": part, "tile": item["name"], **labels, "psnr": psnr, "difference": difference})
    return found


def summaries(rows: list[Row]) -> list[Row]:
    """Average over tiles: PSNR, its change from the whole network with an interval over cases, and the difference."""
    found = []
    for key in dict.fromkeys((row["protocol"], row["scale"], row["part"]) for row in rows):
        own, whole = (
            [row for row in rows if (row["protocol"], row["scale"], row["part"]) == (*key[:2], part)]
            for part in (key[2], WHOLE)
        )
        changes = [a["psnr"] - b["psnr"] for a, b in zip(own, whole, strict=True)]
        change = gain_over_cases(changes, [row["case"] for row in own])
        found.append(
            {
                **dict(zip(("protocol", "scale", "part"), key, strict=True)),
                "tiles": len(own),
                "cases": len({row["case"] for row in own}),
                "psnr": statistics.fmean(row["psnr"] for row in own),
                **{"change": change.mean, "change_low": change.low, "change_high": change.high},
                "difference": statistics.fmean(row["difference"] for row in own),
            }
        )
    return found


def _format_row(row: Row) -> dict[str, Any]:
    return {
        "protocol": row["protocol"],
        "scale": f"x{row['scale']:g}",
        "network": row["part"],
        "PSNR dB": f"{row['psnr']:.2f}",
        "change dB": str(Gain(row["change"], row["change_low"], row["change_high"])),
        "difference, levels": f"{row['difference']:.3f}",
    }


if __name__ == "__main__":
    common.run(app)
