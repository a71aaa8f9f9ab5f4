"""Table III: gland segmentation on originals and reconstructions, with a U-Net on GlaS at x4.

Implements the segmentation experiment of Sec. IV of Duan et al., arXiv:2401.15613. Every image is reduced by the
protocol ``iste-rgb`` and upscaled by the same factor, by bicubic interpolation or by a network:

| setting | U-Net trained on | U-Net run on |
|---|---|---|
| bicubic | originals | bicubic interpolations |
| hr_unet | reconstructions | originals |
| sisr | originals | reconstructions |
| original | originals | originals |

There are two U-Nets; three settings use the same one. Not specified in the paper; our choice: the U-Net of the bicubic
row is trained on originals, so that it differs from the last two rows in its input only. The U-Net, its training and
the conversion of its output to glands are not specified either: see :mod:`experiments.gland_task`.

The released weights of iste_light were trained on GlaS tiles by this project's split, which contain tiles of the
challenge's test sets. For results on the challenge's sets, use weights that were trained elsewhere; otherwise the table
carries a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer
from torch import nn
from tqdm import tqdm

from experiments.datasets import GLAS_COUNTS, glas_datalists
from experiments.downstream import PROTOCOL, Reconstructor, claim_folder, progress_interval, train
from experiments.gland_task import GlandTask
from experiments.reported import SOURCE, reported
from experiments.setting_tables import scores_of, write_setting_tables
from experiments.tables import Metric
from monai_iste.io.files import checksum, make_folder, read_json, write_json
from monai_iste.io.image_reader import image_size
from monai_iste.io.image_writer import save_image
from monai_iste.metrics.manifest import fingerprint, manifest
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device

_METRICS = {
    "f1": Metric("F1", "", 3, True),
    "object_dice": Metric("object Dice", "", 3, True),
    "object_hausdorff": Metric("object Hausdorff", "pixels", 2, False),
}

_SAW_GLAS = "iste_light"  # the preset whose released weights saw tiles of these test sets
_TEST_SETS = {"testA": "glas_a", "testB": "glas_b"}


class Setting(NamedTuple):
    """Row of the table: label, images that the U-Net is trained on, and images that it is run on."""

    label: str
    trained_on: str
    run_on: str


#: By the paper's names.
SETTINGS = {
    "bicubic": Setting("Bicubic", "original", "bicubic"),
    "hr_unet": Setting("HR U-Net", "reconstructed", "original"),
    "sisr": Setting("SISR", "original", "reconstructed"),
    "original": Setting("Original", "original", "original"),
}


# --- the images -------------------------------------------------------------------------------------------------------


def _reconstruct(
    items: Sequence[Mapping[str, Any]], reconstructor: Reconstructor, folder: Path
) -> list[dict[str, Any]]:
    """Replace the images of items by reconstructions, PNG files that are written once and atomically."""
    folder = folder / reconstructor.name
    make_folder(folder)
    result = []
    for item in tqdm(items, desc=reconstructor.name, mininterval=progress_interval(), disable=not items):
        path = folder / f"{item['name']}.png"
        if not path.is_file():
            pixels = reconstructor(item["image"])[2].transpose(1, 2, 0)
            save_image(path, [pixels], (pixels.shape[0], pixels.shape[1]))
        result.append({**item, "image": str(path)})
    return result


def _kinds(
    lists: Mapping[str, Sequence[Mapping[str, Any]]], reconstructor: Reconstructor, folder: Path
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Build the items of every part for original, bicubic and reconstructed images, all of one size."""
    bicubic = Reconstructor("bicubic", scale=reconstructor.scale)
    tests = {part: lists[part] for part in _TEST_SETS}  # nothing is trained on bicubic images
    kinds = {
        "bicubic": {part: _reconstruct(items, bicubic, folder) for part, items in tests.items()},
        "reconstructed": {part: _reconstruct(items, reconstructor, folder) for part, items in lists.items()},
    }
    kinds["original"] = {
        part: [
            {**item, "size": image_size(reconstructed["image"])}
            for item, reconstructed in zip(lists[part], kinds["reconstructed"][part], strict=True)
        ]
        for part in lists
    }
    return kinds


# --- the command ------------------------------------------------------------------------------------------------------


def table3(
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="GlaS: the folder of Grade.csv or index.csv.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder for all results; an interrupted run resumes.")
    ] = Path("table3"),
    preset: Annotated[str, typer.Option("--preset", help="Network of the reconstructions.")] = DEFAULT_PRESET,
    weights: Annotated[
        Optional[Path], typer.Option("--weights", help="File of its weights; default: the released ones.")
    ] = None,
    bicubic_residual: Annotated[
        Optional[bool], typer.Option(help="Whether it adds bicubic interpolation; default: the preset's setting.")
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Factor of the reduction and of the upscaling.")] = 4.0,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Training steps of each U-Net, rounded up to epochs of 50.")
    ] = 2000,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Number of trainings of each U-Net; can be raised later.")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Crops per step.")] = 4,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Initial learning rate of Adam.")] = 1e-3,
    crop: Annotated[int, typer.Option("--crop", help="Side of the crops in pixels.")] = 256,
    width: Annotated[int, typer.Option("--width", help="Channels of the U-Net's first level.")] = 16,
    border: Annotated[int, typer.Option("--border", min=0, help="Width of a third class along edges; 0: none.")] = 0,
    min_area: Annotated[int, typer.Option("--min-area", min=0, help="Smaller glands and holes are dropped.")] = 400,
    num_workers: Annotated[int, typer.Option("--num-workers", min=0, help="Data-loading processes.")] = 0,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
) -> None:
    """Table III: segment glands in originals and reconstructions with a U-Net (GlaS).

    Writes table3.csv, table3.md, table3.tex, manifest.json and a label map of every test image and setting
    (unet-<trained on>-seed<n>/<setting>/<image>.png). After an interruption, the same command resumes.
    """
    device = device or default_device()
    task = GlandTask(width, crop, border, min_area, device)
    lists = glas_datalists(dataset_dir)
    reconstructor = Reconstructor(preset, weights, scale, device, bicubic_residual)
    dataset = {part: fingerprint(items) for part, items in lists.items()}
    training: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    settings = {
        "experiment": "table3",
        "reconstruction": reconstructor.identity,
        "unet": {"width": width, "crop": crop, "border": border, "min_area": min_area},
        "training": training,
        "dataset": dataset,
    }
    claim_folder(output_dir, settings)
    kinds = _kinds(lists, reconstructor, output_dir / "images")
    scores, unets = {}, {}
    for seed in range(seeds):
        for kind in dict.fromkeys(setting.trained_on for setting in SETTINGS.values()):
            network, folder = task.network(seed), output_dir / f"unet-{kind}-seed{seed}"
            fit = partial(train, network, partial(task.dataset, kinds[kind]["train"]), task.loss(), folder, **training)
            unets[folder.name] = checksum(fit(seed=seed, device=device, num_workers=num_workers))
            for name, setting in SETTINGS.items():
                if setting.trained_on == kind:
                    scores[name, seed] = _score(task, network, kinds[setting.run_on], folder / name)
    report = manifest(PROTOCOL, dataset=dataset, device=device)
    report |= {**settings, "seeds": list(range(seeds)), "unet_sha256": unets, "reported": SOURCE}
    report["scores"] = [{"setting": name, "seed": seed, **found} for (name, seed), found in scores.items()]
    write_json(output_dir / "manifest.json", report)
    caption = f"Table III, glands segmented by a U-Net, x{scale:g}, reconstructions of {preset}, {steps} steps."
    panels = _panels(scores, {part: len(lists[part]) for part in _TEST_SETS}, seeds, scale)
    counts = {part: len(items) for part, items in lists.items()}
    _write(output_dir, panels, caption, _limits(counts, weights is None and preset == _SAW_GLAS))


def _score(
    task: GlandTask, network: nn.Module, images: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path
) -> dict[str, dict[str, float]]:
    """Score each test set that has images, or read the scores from ``<folder>.json``; label maps go to the folder."""
    file = folder.with_suffix(".json")
    found: dict[str, dict[str, float]] | None = read_json(file)
    if found is None:
        typer.echo(f"{folder.parent.name}: segmenting for {folder.name}", err=True)
        found = {part: task.score(network, images[part], folder) for part in _TEST_SETS if images[part]}
        write_json(file, found)
    return found


def _panels(
    scores: Mapping[tuple[str, int], Mapping[str, Mapping[str, float]]],
    images: Mapping[str, int],
    seeds: int,
    scale: float,
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Build a panel (title, rows of settings) for every test set that has images."""
    panels = []
    for part, paper in _TEST_SETS.items():
        if not images[part]:
            continue
        rows = []
        for name, setting in SETTINGS.items():
            row = {"setting": name, **setting._asdict(), "test_set": part, "images": images[part]}
            found = [scores[name, seed][part] for seed in range(seeds)]
            rows.append(row | scores_of(found, _METRICS, reported(3, paper, name, scale)))
        panels.append((f"{part}, {images[part]} images", rows))
    return panels


def _limits(counts: Mapping[str, int], has_seen: bool) -> list[str]:
    """Build the notes on the validity of the numbers."""
    if counts != GLAS_COUNTS:
        sizes = ", ".join(f"{part} {count}" for part, count in counts.items())
        return [f"These are not the challenge's sets ({sizes} images): do not compare with reported numbers."]
    if has_seen:
        return ["The released weights have seen tiles of these test sets: for a result, name others with --weights."]
    return []


def _write(
    folder: Path, panels: Sequence[tuple[str, list[dict[str, Any]]]], caption: str, limits: Sequence[str]
) -> None:
    names = {"label": "Setting", "trained_on": "trained on", "run_on": "run on"}
    notes = ["Scores of the GlaS challenge, objects pooled over a test set.", *limits]
    paths = write_setting_tables(panels, names, _METRICS, folder, "table3", caption, notes)
    typer.echo(next(path for path in paths if path.suffix == ".md").read_text())
