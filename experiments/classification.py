"""Table IV: tumor classification on originals and reconstructions, with a ResNet-50 on PCam at x2.

Implements the classification experiment of Sec. IV of Duan et al., arXiv:2401.15613. One ResNet is trained on originals
and then run on five versions of the same test patches:

| setting | input of the ResNet |
|---|---|
| original | the patches, 96 x 96 pixels |
| low_resolution | their reduction by the protocol ``iste-rgb``, 48 x 48 pixels at x2 |
| bicubic | the reduction, upscaled by bicubic interpolation |
| liif, iste | the reduction, upscaled by a network |

Not specified in the paper; our choice: reductions are classified at their own size (the network pools globally, so it
accepts any size); the training, until the validation stops rising or for all steps; and a first stride of 2, as in the
original ResNet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer
from torch import nn
from tqdm import tqdm

from experiments.datasets import PCAM_COUNTS, pcam_datalists
from experiments.datasets.pcam import PCAM_SIDE
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
from experiments.learning_curve import write_curve
from experiments.methods import method_of, title_of
from experiments.reported import SOURCE, reported
from experiments.setting_tables import scores_of, write_setting_tables
from experiments.tables import Metric
from experiments.tumor_task import BLOCK, Items, PatchViews, classify, create_classifier, training_set, validate
from monai_iste.errors import ConfigError, check_choice, require_extra
from monai_iste.io.files import checksum
from monai_iste.io.json_files import read_json, write_json
from monai_iste.metrics.manifest import manifest
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device

_METRICS = {"accuracy": Metric("accuracy", "%", 2, True), "f1": Metric("F1", "", 4, True)}

_VALIDATION_PATCHES = 1024  # at most

_LABELS = {"original": "Original", "low_resolution": "Low resolution"}


def table4(
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="PCam: its six .h5 files, or labels.csv.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder for all results; an interrupted run resumes.")
    ] = Path("table4"),
    sr: Annotated[
        Optional[list[str]],
        typer.Option(
            "--sr", metavar="PRESET[=FILE]", help="A network that reconstructs, with its weights; repeatable."
        ),
    ] = None,
    bicubic_residual: Annotated[
        Optional[bool],
        typer.Option(help="Whether these networks add bicubic interpolation; default: the preset's setting."),
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Factor of the reduction and of the upscaling.")] = 2.0,
    network: Annotated[
        str, typer.Option("--network", help="The classifier: resnet50, resnet18 or resnet10.")
    ] = "resnet50",
    steps: Annotated[
        int,
        typer.Option("--steps", min=1, help="Training steps of the classifier at most, rounded up to epochs of 50."),
    ] = 4000,
    patience: Annotated[
        int,
        typer.Option(
            "--patience",
            min=0,
            help="Validations, one in 200 steps, without a rise that end a training; 0: all steps, the last weights.",
        ),
    ] = 8,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Number of trainings of the classifier; can be raised later.")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Patches per step.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Initial learning rate of Adam.")] = 1e-3,
    crops: Annotated[
        int, typer.Option("--crops", min=1, help="With labels.csv: maximum number of patches per tile.")
    ] = 16,
    side: Annotated[
        int, typer.Option("--side", min=32, help="With labels.csv: side of the patches in pixels.")
    ] = PCAM_SIDE,
    curve: Annotated[
        Optional[str],
        typer.Option(
            "--curve",
            metavar="N,N,...",
            help="Also train on that many patches, and draw the accuracy on originals against their number.",
        ),
    ] = None,
    max_test: Annotated[
        Optional[int], typer.Option("--max-test", min=1, help="Number of test patches, evenly spread; default: all.")
    ] = None,
    precision: PrecisionOption = "fp32",
    num_workers: Annotated[int, typer.Option("--num-workers", min=0, help="Data-loading processes.")] = 0,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
) -> None:
    """Table IV: classify tumor patches in originals, reductions and reconstructions with a ResNet (PCam).

    Writes table4.csv, table4.md, table4.tex and manifest.json; with a curve also learning-curve.csv and .png. After an
    interruption, the same command resumes.
    """
    check_choice("a precision", precision, PRECISIONS)
    device = device or default_device()
    classifier = partial(create_classifier, network)
    classifier(0)  # raises for unknown names before any data is read
    settings = _settings(sr or [DEFAULT_PRESET], scale, device, bicubic_residual)
    counts = _counts(curve)
    parts = pcam_datalists(dataset_dir, crops=crops, side=side)
    test = _evenly_spaced(parts["test"], max_test)
    dataset = {"train": _fingerprint(parts["train"]), "test": _fingerprint(test)}
    training: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    training["precision"] = precision
    about = {"experiment": "table4", "network": network, "scale": scale, "dataset": dataset}
    about |= {"training": {**training, "patience": patience}}
    claim_folder(output_dir, about)
    score = partial(validate, items=_evenly_spaced(parts["valid"], _VALIDATION_PATCHES), device=device)
    watched = Validation(score, patience=patience) if patience else None
    fit = partial(train, loss=nn.CrossEntropyLoss(), device=device, num_workers=num_workers, validation=watched)
    scores: dict[tuple[str, int], dict[str, float]] = {}
    weights = {}
    for seed in range(seeds):
        model, folder = classifier(seed), output_dir / f"{network}-seed{seed}"
        data = partial(training_set, parts["train"])
        weights[folder.name] = checksum(fit(model, data, folder=folder, seed=seed, **training))
        for name, reconstructor in settings.items():
            views = PatchViews(name, reconstructor, output_dir / "images")
            scores[name, seed] = _score(model, views, test, folder / f"{name}-{reconstructor.name}.json", device)
    found: dict[int, list[float]] = {
        len(parts["train"]): [scores["original", seed]["accuracy"] for seed in range(seeds)]
    }
    for count in (count for count in counts if count < len(parts["train"])):
        found[count] = []
        for seed in range(seeds):
            model, folder = classifier(seed), output_dir / f"{network}-{count}-patches-seed{seed}"
            fit(
                model,
                partial(training_set, _evenly_spaced(parts["train"], count)),
                folder=folder,
                seed=seed,
                **training,
            )
            views = PatchViews("original", settings["original"], output_dir / "images")
            found[count].append(_score(model, views, test, folder / "original.json", device)["accuracy"])
    report = manifest(PROTOCOL, dataset=dataset, device=device)
    report |= {**about, "seeds": list(range(seeds)), "classifier_sha256": weights, "reported": SOURCE}
    report["settings"] = {name: reconstructor.identity for name, reconstructor in settings.items()}
    report["scores"] = [{"setting": name, "seed": seed, **found} for (name, seed), found in scores.items()]
    if counts:
        report["learning_curve"] = {str(count): values for count, values in sorted(found.items())}
        write_curve(found, output_dir, _frequent(test))
    write_json(output_dir / "manifest.json", report)
    rows = _rows(scores, list(settings), len(test), seeds, scale)
    end = describe_end(steps, patience)
    caption = f"Table IV, patches classified by a {network}, x{scale:g}, trained {end} of {batch_size} patches."
    _write(
        output_dir, rows, caption, _frequent(test), official={part: len(parts[part]) for part in parts} == PCAM_COUNTS
    )


def _score(network: nn.Module, views: PatchViews, items: Items, file: Path, device: str) -> dict[str, float]:
    """Score a setting, or read its scores from the file if it exists."""
    found: dict[str, float] | None = read_json(file, dict.fromkeys(_METRICS, float))
    if found is None:
        total, desc = -(-len(items) // BLOCK), f"{file.parent.name} on {views.setting}"
        found = classify(network, tqdm(views.blocks(items), desc, total, mininterval=progress_interval()), device)
        write_json(file, found)
    return found


def _settings(
    networks: Sequence[str], scale: float, device: str, bicubic_residual: bool | None
) -> dict[str, Reconstructor]:
    """Map each row of the table to its reconstructor; weights are loaded now, so that wrong files fail early."""
    bicubic = Reconstructor("bicubic", None, scale, device)
    settings = {"original": bicubic, "low_resolution": bicubic, "bicubic": bicubic}
    for text in networks:
        name, _, file = text.partition("=")
        if name in settings:
            raise ConfigError("every network once in --sr, and no bicubic", repr(name), "Its row is in the table.")
        settings[name] = Reconstructor(name, file or None, scale, device, bicubic_residual)
    return settings


def _evenly_spaced(items: Items, count: int | None) -> Items:
    """Select at most ``count`` items, evenly spread."""
    if count is None or count >= len(items):
        return items
    return [items[i * len(items) // count] for i in range(count)]


def _fingerprint(items: Items) -> dict[str, Any]:
    """Count the patches and hash a thousand of them, evenly spread; reading all of PCam would take minutes."""
    digest = hashlib.sha256()
    for item in _evenly_spaced(items, 1000):
        digest.update(f"{item['name']} {item['label']} ".encode())
        digest.update(np.ascontiguousarray(item["image"]).tobytes())
    return {"count": len(items), "sha256": digest.hexdigest()}


def _rows(
    scores: Mapping[tuple[str, int], Mapping[str, float]], names: Sequence[str], images: int, seeds: int, scale: float
) -> list[dict[str, Any]]:
    """Build a row for each setting, with the paper's numbers for that method."""
    rows = []
    for name in names:
        method, label = method_of(name), _LABELS.get(name) or title_of(name)
        row = {"setting": name, "label": label, "note": "" if name in _LABELS else name, "images": images}
        found = [scores[name, seed] for seed in range(seeds)]
        rows.append(row | scores_of(found, _METRICS, reported(4, "pcam", method, scale)))
    return rows


def _counts(text: str | None) -> list[int]:
    """Parse the numbers of training patches of the learning curve."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) >= 2 for word in words):
        raise ConfigError("--curve N,N,... with whole numbers of at least 2", repr(text), "Try --curve 100,200,400.")
    require_extra("matplotlib", "experiments")  # before the work
    return sorted({int(word) for word in words})


def _frequent(items: Items) -> float:
    """Return the accuracy of naming the more frequent class always, in percent."""
    tumors = sum(item["label"] for item in items)
    return 100 * max(tumors, len(items) - tumors) / len(items)


def _write(folder: Path, rows: Sequence[dict[str, Any]], caption: str, frequent: float, official: bool) -> None:
    notes = [
        "The classifier is trained on originals; F1 is of the tumor class.",
        f"Always naming the more frequent class has an accuracy of {frequent:.2f} %.",
    ]
    if not official:
        notes += ["These are not PCam's patches: do not compare with reported numbers."]
    panels = [(f"{rows[0]['images']:,} test patches", rows)]
    paths = write_setting_tables(
        panels, {"label": "Method", "note": "Size"}, _METRICS, folder, "table4", caption, notes
    )
    typer.echo(next(path for path in paths if path.suffix == ".md").read_text())
