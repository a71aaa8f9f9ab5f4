"""Search over variants of a preset: quality on validation tiles after a short training, and cost.

python -m benchmarks.search DIR --output_dir OUT --steps 200
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image, ImageDraw, ImageFont

from benchmarks import common
from benchmarks.common import Row
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.json_files import read_json
from monai_iste.networks import create_iste
from monai_iste.networks.encoders import EDSREncoder

__all__ = ["VARIANTS", "app", "picture", "search"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ROOT = Path(__file__).resolve().parents[1]
STEPS_PER_EPOCH = 25  # steps between checkpoints


def _edsr(channels: int, blocks: int) -> Row:
    return {"encoder": {"_target_": "EDSREncoder", "out_channels": channels, "num_blocks": blocks}}


#: Changes to the preset, as arguments of :class:`~monai_iste.networks.ISTE` in a configuration.
VARIANTS: dict[str, Row] = {
    "preset": {},
    "branches 64 wide": {"texture_channels": 64, "hidden_channels": 64},
    "branches 16 wide": {"texture_channels": 16, "hidden_channels": 16},
    "one hidden layer": {"hidden_layers": 1},
    "encoder 16 blocks of 32": _edsr(32, 16),
    "encoder 4 blocks of 64": _edsr(64, 4),
    "texture at the nearest pixel": {"texture_corners": "nearest"},
    "3x3 projection": {"query_kernel": 3},
    "keys on the lattice in training": {"training_keys": "lattice"},
    "without LFI": {"use_lfi": False},
    "without STF": {"use_stf": False},
    "without LTD": {"use_ltd": False},
    "without bicubic residual": {"bicubic_residual": False},
}


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Tiles, in train/ and val/.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder for the trainings.")] = Path("runs/search"),
    preset: Annotated[str, typer.Option("--preset", help="Preset to vary.")] = DEFAULT_PRESET,
    names: Annotated[str, typer.Option("--variants", help="Variants, separated by commas; default: all.")] = "",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of each variant.")] = 200,
    options: Annotated[str, typer.Option("--options", help="Further options of the training, as one string.")] = "",
    repeats: common.RepeatsOption = 5,
    json_file: common.JsonOption = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw quality against cost, .png.")] = None,
) -> list[Row]:
    """Train every variant with the bundle's recipe and one seed, and time it; finished trainings are not repeated."""
    chosen = common.split_words(names) or list(VARIANTS)
    for name in chosen:
        if name not in VARIANTS:
            raise ConfigError(f"variants: {', '.join(VARIANTS)}", repr(name), "Choose among these.")
    now, rows = common.clock("cpu"), []
    image = common.sample_tissue(96, 96).float() / 255
    for name in chosen:
        means = _train_variant(folder, output_dir / name.replace(" ", "_"), preset, name, steps, options)
        net = create_iste(preset, **_build_changes(VARIANTS[name])).eval()
        with torch.no_grad():
            measured = common.time_alternating({name: partial(net, image, scale=4.0)}, now, repeats)[name]
        rows.append(
            {
                "variant": name,
                "steps": steps,
                "parameters": sum(p.numel() for p in net.parameters()),
                "psnr": {row["scale"]: row["psnr"] for row in means if row["method"] == "iste"},
                "bicubic": {row["scale"]: row["psnr"] for row in means if row["method"] == "bicubic"},
                "seconds_per_megapixel": measured.median / (384 * 384) * 1e6,
                "macs": measured.macs,
            }
        )
        common.save("Search", rows, "cpu", json_file)
    common.report("Search", rows, _format_row, "cpu", json_file)
    if plot is not None:
        picture(rows).save(plot)
    return rows


# What is used of the results of a training.
_REPORT = {"rows": [{"scale": float, "method": str, "psnr": float}]}


def _train_variant(folder: Path, output_dir: Path, preset: str, name: str, steps: int, options: str) -> list[Row]:
    """Train a variant in a subprocess unless it is done, and return its table of scores."""
    report = output_dir / "metrics.json"
    if not report.is_file():
        overrides: list[Any] = ["--preset", preset, "--dataset_dir", folder, "--output_dir", output_dir]
        epochs = max(1, steps // STEPS_PER_EPOCH)
        overrides += [
            "--steps_per_epoch",
            min(steps, STEPS_PER_EPOCH),
            "--max_epochs",
            epochs,
            "--val_interval",
            epochs,
        ]
        for key, value in VARIANTS[name].items():
            overrides += [f"--network_def#{key}", json.dumps(value) if isinstance(value, dict) else value]
        configs = [str(ROOT / "bundles/iste/configs" / file) for file in ("train.json", "light_release.json")]
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(configs)]
        done = subprocess.run([*command, *map(str, overrides), *options.split()], cwd=ROOT)
        if done.returncode:
            raise DataError("a training that ends well", f"exit code {done.returncode} of {name!r}", "See above why.")
    remedy = "Restore it, or remove it: the variant is then trained again."
    rows: list[Row] = (read_json(report, _REPORT, remedy) or {"rows": []})["rows"]
    own, bicubic = ([row["scale"] for row in rows if row["method"] == name] for name in ("iste", "bicubic"))
    if not own or own != bicubic:
        received = f"x{own} and x{bicubic}"
        raise DataError(f"scores of the network and of bicubic at the same scales in {report}", received, remedy)
    return rows


def _build_changes(changes: Row) -> Row:
    """Replace the configuration of an encoder by the encoder."""
    encoder = changes.get("encoder")
    if encoder is None:
        return changes
    return {**changes, "encoder": EDSREncoder(encoder["out_channels"], encoder["num_blocks"])}


def picture(rows: list[Row], width: int = 860, height: int = 520) -> Image.Image:
    """Draw the mean PSNR over scales against operations, which other programs cannot disturb."""
    points = [(row["macs"] / 384**2 / 1e3, sum(row["psnr"].values()) / len(row["psnr"])) for row in rows]
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    dx, dy = (x1 - x0) or 1.0, (y1 - y0) or 1.0
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    left, right, top, bottom = 80, width - 240, 50, height - 70

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / dx * (right - left), bottom - (y - y0) / dy * (bottom - top)

    draw.rectangle((left - 20, top - 15, width - 10, bottom + 15), outline="gray")
    for i in range(5):
        x, y = x0 + dx * i / 4, y0 + dy * i / 4
        draw.text((place(x, y0)[0], bottom + 20), f"{x:.0f}", fill="black", font=font, anchor="ma")
        draw.text((left - 25, place(x0, y)[1]), f"{y:.2f}", fill="black", font=font, anchor="rm")
    draw.text(((left + right) / 2, height - 8), "GMAC per output megapixel, x4", "black", font, "ms")
    draw.text((8, 8), "PSNR dB, mean of the scales", "black", font)
    for row, point in zip(rows, points, strict=True):
        x, y = place(*point)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill="crimson" if row["variant"] == "preset" else "steelblue")
        draw.text((x + 8, y), row["variant"], "black", font, "lm")
    return canvas


def _format_row(row: Row) -> Row:
    return {
        "variant": row["variant"],
        "parameters": f"{row['parameters'] / 1e6:.3f} M",
        **{f"x{scale} dB": f"{psnr:.2f} ({psnr - row['bicubic'][scale]:+.2f})" for scale, psnr in row["psnr"].items()},
        "s/megapixel": f"{row['seconds_per_megapixel']:.2f}",
        "GMAC/megapixel": f"{row['macs'] / (384 * 384) * 1e6 / 1e9:.1f}",
    }


if __name__ == "__main__":
    common.run(app)
