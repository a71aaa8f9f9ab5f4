"""Table III: gland segmentation on originals and reconstructions, with a U-Net on GlaS at x4.

Implements the segmentation experiment of Sec. IV of Duan et al., arXiv:2401.15613. Every image is reduced by the
protocol ``iste-rgb`` and upscaled by the same factor, by bicubic interpolation or by a network:

| setting | U-Net trained on | U-Net run on |
|---|---|---|
| bicubic | originals | bicubic interpolations |
| hr_unet | reconstructions | originals |
| sisr | originals | reconstructions |
| original | originals | originals |

Every network that reconstructs has its own rows hr_unet and sisr. All other settings use the U-Net that is trained on
originals. Not specified in the paper; our choice: the U-Net of the bicubic row is trained on originals, so that it
differs from the last two rows in its input only; every U-Net is trained until its validation stops rising, on images
held out of the training part, or for all steps. The U-Net, its training and the conversion of its output to glands are
not specified either: see :mod:`experiments.gland_task`.

The released weights of iste_light were trained on GlaS tiles by this project's split, which contain tiles of the
challenge's test sets. For results on the challenge's sets, use weights that were trained elsewhere; otherwise the table
carries a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer
from torch import nn
from tqdm import tqdm

from experiments.datasets import GLAS_COUNTS, glas_datalists
from experiments.downstream import (
    PRECISIONS,
    PROTOCOL,
    PrecisionOption,
    Reconstructor,
    claim_folder,
    describe_end,
    progress_interval,
    train,
)
from experiments.early_stopping import Validation
from experiments.gland_task import GlandTask
from experiments.methods import method_of
from experiments.reported import SOURCE, reported
from experiments.setting_tables import scores_of, write_setting_tables
from experiments.tables import Metric
from monai_iste.errors import ConfigError, check_choice
from monai_iste.io.files import checksum, make_folder
from monai_iste.io.image_reader import image_size
from monai_iste.io.image_writer import save_image
from monai_iste.io.json_files import read_json, write_json
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


#: Fraction of the training images that validate, where the data set names none.
_HELD_OUT = 1 / 6


class Setting(NamedTuple):
    """Row of the table: the paper's name, label, kinds of images that the U-Net is trained and run on, network."""

    name: str
    label: str
    trained_on: str
    run_on: str
    network: str = ""


def list_settings(reconstructors: Mapping[str, Reconstructor]) -> list[Setting]:
    """List the rows: the paper's four for the first network, and two more for every other one.

    A kind of images is ``original``, ``bicubic``, or the unique name of a reconstructor. Bicubic interpolation as a
    network has the row hr_unet alone, because its sisr is the row bicubic.

    Args:
        reconstructors: networks by the names to print.
    """
    rows = [Setting("bicubic", "Bicubic", "original", "bicubic")]
    for name, maker in reconstructors.items():
        kind = _kind(maker)
        rows.append(Setting("hr_unet", "HR U-Net", kind, "original", name))
        if kind != "bicubic":
            rows.append(Setting("sisr", "SISR", "original", kind, name))
    return [*rows, Setting("original", "Original", "original", "original")]


def _kind(maker: Reconstructor) -> str:
    return "bicubic" if maker.preset == "bicubic" else maker.name


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
    lists: Mapping[str, Sequence[Mapping[str, Any]]],
    reconstructors: Sequence[Reconstructor],
    scale: float,
    folder: Path,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Build the items of every part for original, bicubic and reconstructed images, all of one size."""
    kinds = {}
    for maker in (Reconstructor("bicubic", scale=scale), *reconstructors):
        trained_on = maker in reconstructors  # else it is a row of the table that nothing is trained on
        parts = lists if trained_on else {part: lists[part] for part in _TEST_SETS}
        kinds[_kind(maker)] = {part: _reconstruct(items, maker, folder) for part, items in parts.items()}
    sizes = {item["name"]: image_size(item["image"]) for items in kinds[_kind(maker)].values() for item in items}
    kinds["original"] = {part: [{**item, "size": sizes[item["name"]]} for item in lists[part]] for part in lists}
    return kinds


def _hold_out(items: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split the training images into those to train on and those to validate on.

    The second are those that the data set names. Where it names none, as GlaS, they are a sixth of the images, the same
    on every machine; images of one patient may then be in both parts.
    """
    held = [item for item in items if item.get("validation")]
    if not held:
        ranked = sorted(items, key=lambda item: hashlib.sha256(item["name"].encode()).hexdigest())
        held = ranked[: max(1, round(len(items) * _HELD_OUT))]
    return [item for item in items if item not in held], held


# --- the command ------------------------------------------------------------------------------------------------------


def table3(
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="GlaS: the folder of Grade.csv or index.csv.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder for all results; an interrupted run resumes.")
    ] = Path("table3"),
    weights: Annotated[
        Optional[list[str]],
        typer.Option("--weights", metavar="PRESET[=FILE]", help="A network that reconstructs, or bicubic; repeatable."),
    ] = None,
    bicubic_residual: Annotated[
        Optional[bool], typer.Option(help="Whether they add bicubic interpolation; default: the preset's setting.")
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Factor of the reduction and of the upscaling.")] = 4.0,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Training steps of each U-Net at most, rounded up to epochs of 50.")
    ] = 6000,
    patience: Annotated[
        int,
        typer.Option(
            "--patience",
            min=0,
            help="Validations, one in 200 steps, without a rise that end a training; 0: all steps, the last weights.",
        ),
    ] = 8,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Number of trainings of each U-Net; can be raised later.")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Crops per step.")] = 4,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Initial learning rate of Adam.")] = 1e-3,
    crop: Annotated[int, typer.Option("--crop", help="Side of the crops in pixels.")] = 256,
    width: Annotated[int, typer.Option("--width", help="Channels of the U-Net's first level.")] = 16,
    border: Annotated[int, typer.Option("--border", min=0, help="Width of a third class along edges; 0: none.")] = 4,
    min_area: Annotated[int, typer.Option("--min-area", min=0, help="Smaller glands and holes are dropped.")] = 400,
    precision: PrecisionOption = "fp32",
    num_workers: Annotated[int, typer.Option("--num-workers", min=0, help="Data-loading processes.")] = 0,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
) -> None:
    """Table III: segment glands in originals and reconstructions with a U-Net (GlaS).

    Writes table3.csv, table3.md, table3.tex, manifest.json and a label map of every test image and setting
    (unet-<trained on>-seed<n>/<run on>/<image>.png). After an interruption, the same command resumes.
    """
    check_choice("a precision", precision, PRECISIONS)
    device = device or default_device()
    task = GlandTask(width, crop, border, min_area, device)
    lists = glas_datalists(dataset_dir)
    reconstructors = _reconstructors(weights or [DEFAULT_PRESET], scale, device, bicubic_residual)
    dataset = {part: fingerprint(items) for part, items in lists.items()}
    training: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    training["precision"] = precision
    settings = {
        "experiment": "table3",
        "scale": scale,
        "unet": {"width": width, "crop": crop, "border": border, "min_area": min_area},
        "training": {**training, "patience": patience},
        "dataset": dataset,
    }
    claim_folder(output_dir, settings)
    kinds = _kinds(lists, list(reconstructors.values()), scale, output_dir / "images")
    rows, scores, unets = list_settings(reconstructors), {}, {}
    for seed in range(seeds):
        for kind in dict.fromkeys(row.trained_on for row in rows):
            network, folder = task.network(seed), output_dir / f"unet-{kind}-seed{seed}"
            learned, held = _hold_out(kinds[kind]["train"])
            watched = Validation(partial(task.validate, items=held), patience=patience) if patience else None
            fit = partial(train, network, partial(task.dataset, learned), task.loss(), folder, **training)
            file = fit(seed=seed, device=device, num_workers=num_workers, validation=watched)
            unets[folder.name] = {"sha256": checksum(file), "validation": read_json(folder / "validation.json")}
            for row in rows:
                if row.trained_on == kind:
                    scores[row, seed] = _score(task, network, kinds[row.run_on], folder / row.run_on)
    report = manifest(PROTOCOL, dataset=dataset, device=device)
    report |= {**settings, "seeds": list(range(seeds)), "unets": unets, "reported": SOURCE}
    report["reconstructions"] = {name: maker.identity for name, maker in reconstructors.items()}
    report["scores"] = [{**row._asdict(), "seed": seed, **found} for (row, seed), found in scores.items()]
    write_json(output_dir / "manifest.json", report)
    caption = f"Table III, glands segmented by a U-Net, x{scale:g}, trained {describe_end(steps, patience)}."
    panels = _panels(rows, scores, {part: len(lists[part]) for part in _TEST_SETS}, seeds, scale)
    counts = {part: len(items) for part, items in lists.items()}
    _write(output_dir, panels, caption, _limits(counts, _SAW_GLAS in (weights or [])))


def _reconstructors(
    texts: Sequence[str], scale: float, device: str, bicubic_residual: bool | None
) -> dict[str, Reconstructor]:
    """Load the networks by the names to print, before anything is trained."""
    found: dict[str, Reconstructor] = {}
    for text in texts:
        preset, _, file = text.partition("=")
        name = next((name for name in (preset, text) if name not in found), "")
        if not name:
            raise ConfigError("every network once in --weights", repr(text), "Remove one.")
        found[name] = Reconstructor(preset, file or None, scale, device, bicubic_residual)
    return found


def _score(
    task: GlandTask, network: nn.Module, images: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path
) -> dict[str, dict[str, float]]:
    """Score each test set that has images, or read the scores from ``<folder>.json``; label maps go to the folder."""
    file = folder.with_suffix(".json")
    of_part = dict.fromkeys(_METRICS, float)
    found: dict[str, dict[str, float]] | None = read_json(file, {part: of_part for part in _TEST_SETS if images[part]})
    if found is None:
        typer.echo(f"{folder.parent.name}: segmenting for {folder.name}", err=True)
        found = {part: task.score(network, images[part], folder) for part in _TEST_SETS if images[part]}
        write_json(file, found)
    return found


def _panels(
    settings: Sequence[Setting],
    scores: Mapping[tuple[Setting, int], Mapping[str, Mapping[str, float]]],
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
        for setting in settings:
            row: dict[str, Any] = {"setting": setting.name, "label": setting.label, "network": setting.network}
            row |= {"trained_on": _plain(setting.trained_on), "run_on": _plain(setting.run_on)}
            row |= {"test_set": part, "images": images[part]}
            found = [scores[setting, seed][part] for seed in range(seeds)]
            known = not setting.network or method_of(setting.network) == "iste"  # the paper's network
            printed = reported(3, paper, setting.name, scale) if known else None
            rows.append(row | scores_of(found, _METRICS, printed))
        panels.append((f"{part}, {images[part]} images", rows))
    return panels


def _plain(kind: str) -> str:
    return kind if kind in ("original", "bicubic") else "reconstructed"


def _limits(counts: Mapping[str, int], has_seen: bool) -> list[str]:
    """Build the notes on the validity of the numbers."""
    if counts != GLAS_COUNTS:
        sizes = ", ".join(f"{part} {count}" for part, count in counts.items())
        return [f"These are not the challenge's sets ({sizes} images): do not compare with reported numbers."]
    if has_seen:
        return ["The released weights of iste_light have seen tiles of these test sets."]
    return []


def _write(
    folder: Path, panels: Sequence[tuple[str, list[dict[str, Any]]]], caption: str, limits: Sequence[str]
) -> None:
    names = {"label": "Setting", "network": "network", "trained_on": "trained on", "run_on": "run on"}
    notes = ["Scores of the GlaS challenge, objects pooled over a test set.", *limits]
    paths = write_setting_tables(panels, names, _METRICS, folder, "table3", caption, notes)
    typer.echo(next(path for path in paths if path.suffix == ".md").read_text())
