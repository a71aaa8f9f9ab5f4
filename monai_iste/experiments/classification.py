"""Table IV: are reconstructions as good as originals for recognising tumours? A ResNet-50 on PCam at x2.

Implements the classification experiment of Sec. IV of Duan et al., arXiv:2401.15613. One ResNet is trained on originals
and run on five kinds of test images, which all come from the same patches:

| setting | what the ResNet is run on |
|---|---|
| original | the patches, 96 x 96 pixels |
| low_resolution | their reduction by the protocol ``iste-rgb``, 48 x 48 pixels at x2 |
| bicubic | the reduction, magnified again by bicubic interpolation |
| liif, iste | the reduction, magnified again by a network |

Paper silent on the size at which reductions are fed (their own here: the network pools globally, so it takes any, and
nothing is interpolated), on the training, and on the network's first stride (2 here, as in the original ResNet).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from monai.data import Dataset
from monai.networks.nets import resnet18, resnet50
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandRotate90d, ScaleIntensityRanged
from torch import nn
from tqdm import tqdm

from monai_iste.data.benchmarks import PCAM_COUNTS, pcam_datalists
from monai_iste.errors import ConfigError, DataError
from monai_iste.experiments.downstream import (
    PROTOCOL,
    Reconstructor,
    claim,
    markdown_table,
    mean_and_deviation,
    pause,
    read_json,
    train,
    write_csv,
    write_json,
)
from monai_iste.experiments.reported import SOURCE, reported
from monai_iste.images import make_folder, open_output
from monai_iste.magnify import default_device
from monai_iste.manifest import checksum, manifest
from monai_iste.networks.presets import DEFAULT_PRESET

__all__ = ["NETWORKS", "Confusion", "PatchViews", "create_classifier", "table4"]

#: Classifiers by name; the paper's is resnet50.
NETWORKS = {"resnet50": resnet50, "resnet18": resnet18}

_BLOCK = 256  # patches that are reconstructed, kept and classified together
_METRICS = ("accuracy", "f1")

Items = Sequence[Mapping[str, Any]]


class Confusion:
    """Accuracy in percent, and F1 of the class 1, tumour: ``2 TP / (2 TP + FP + FN)``.

    Example:
        >>> confusion = Confusion()
        >>> confusion.add(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1]))
        >>> confusion.as_dict()
        {'accuracy': 50.0, 'f1': 0.5}
    """

    def __init__(self) -> None:
        self.counts = np.zeros((2, 2), int)  # rows: predicted, columns: true

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Count classes, 0 or 1; any shape, the same for both."""
        np.add.at(self.counts, (predicted.ravel(), truth.ravel()), 1)

    def as_dict(self) -> dict[str, float]:
        """``accuracy`` in percent and ``f1``, which is 0 where no tumour is, and none was found.

        Raises:
            DataError: nothing was counted.
        """
        if not self.counts.sum():
            raise DataError("at least one patch to score", "none", "Name a test set that has some.")
        (right_0, missed), (false, right_1) = self.counts.tolist()
        found = 2 * right_1 + missed + false
        return {
            "accuracy": 100 * (right_0 + right_1) / int(self.counts.sum()),
            "f1": 2 * right_1 / found if found else 0.0,
        }


def create_classifier(name: str, seed: int) -> nn.Module:
    """MONAI's ResNet for RGB images of any size and two classes, with random weights of that seed.

    Args:
        name: a key of :data:`NETWORKS`.
    Shape:
        (B, 3, H, W) in [0, 1] -> (B, 2)
    Raises:
        ConfigError: no such network.

    Example:
        >>> create_classifier("resnet18", seed=0).eval()(torch.zeros(1, 3, 48, 48)).shape
        torch.Size([1, 2])
    """
    if name not in NETWORKS:
        raise ConfigError(f"a network: {', '.join(NETWORKS)}", repr(name), "Choose one of these.")
    torch.manual_seed(seed)
    return NETWORKS[name](spatial_dims=2, n_input_channels=3, num_classes=2, conv1_t_stride=2)


def _training_set(items: Items) -> Dataset:
    """Training items {image: (3, H, W) float32 in [0, 1], label: 0 or 1}, flipped and turned at random."""
    return Dataset(
        items,
        Compose(
            [
                RandFlipd("image", prob=0.5, spatial_axis=0),
                RandFlipd("image", prob=0.5, spatial_axis=1),
                RandRotate90d("image", prob=0.5, max_k=3),
                ScaleIntensityRanged("image", 0, 255, 0, 1),
                EnsureTyped("image", dtype=torch.float32, track_meta=False),
            ]
        ),
    )


class PatchViews:
    """The test patches of one setting, block after block; what a network has to make is made once and kept.

    Args:
        setting: ``original``, ``low_resolution``, or a name of one's own for a reconstruction.
        reconstructor: reduces the patches and magnifies them.
        folder: where blocks of reconstructions are kept, (N, 3, H, W) uint8 in ``.npy`` files.
    """

    def __init__(self, setting: str, reconstructor: Reconstructor, folder: Path) -> None:
        self.setting, self.reconstructor = setting, reconstructor
        self.folder = folder / reconstructor.name

    def blocks(self, items: Items) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images (N, 3, H, W) uint8 and their labels (N,), at most 256 at a time."""
        for start in range(0, len(items), _BLOCK):
            block = [items[i] for i in range(start, min(start + _BLOCK, len(items)))]
            labels = np.array([item["label"] for item in block])
            yield self._images(block, self.folder / f"block-{start // _BLOCK:05}.npy"), labels

    def _images(self, block: Items, file: Path) -> np.ndarray:
        kept = self.setting not in ("original", "low_resolution")
        if kept and file.is_file():
            return np.load(file)
        which = {"original": 0, "low_resolution": 1}.get(self.setting, 2)
        images = np.stack([self.reconstructor(np.asarray(item["image"]))[which] for item in block])
        if kept:
            make_folder(file.parent)
            with open_output(file) as out:
                np.save(out, images)
        return images


@torch.no_grad()
def _classify(network: nn.Module, blocks: Iterable[tuple[np.ndarray, np.ndarray]], device: str) -> dict[str, float]:
    network.to(device).eval()
    confusion = Confusion()
    for images, labels in blocks:
        scores = network(torch.from_numpy(images).to(device).float() / 255)
        confusion.add(scores.argmax(1).cpu().numpy(), labels)
    return confusion.as_dict()


# --- the command ------------------------------------------------------------------------------------------------------


def table4(
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="PCam: its six .h5 files, or labels.csv.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where everything goes; goes on there.")] = Path(
        "table4"
    ),
    sr: Annotated[
        Optional[list[str]],
        typer.Option(
            "--sr", metavar="PRESET[=FILE]", help="A network that reconstructs, with its weights; repeatable."
        ),
    ] = None,
    bicubic_residual: Annotated[
        Optional[bool], typer.Option(help="Whether these learned the difference to bicubic; default: the preset's.")
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Reduction and magnification.")] = 2.0,
    network: Annotated[str, typer.Option("--network", help="The classifier, resnet50 or resnet18.")] = "resnet50",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of the classifier, rounded up to epochs of 50.")] = 4000,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of the classifier; more can follow.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Patches per step.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of Adam, at the start.")] = 1e-3,
    crops: Annotated[int, typer.Option("--crops", min=1, help="Of labels.csv: most patches of one tile.")] = 16,
    max_test: Annotated[
        Optional[int], typer.Option("--max-test", min=1, help="Patches to test, evenly spread; default: all.")
    ] = None,
    num_workers: Annotated[int, typer.Option("--num-workers", min=0, help="Processes that load patches.")] = 0,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
) -> None:
    """Table IV: recognise tumours in originals, reductions and reconstructions with a ResNet (PCam).

    Writes table4.csv, table4.md and manifest.json. An interrupted run goes on where it was when it is repeated.
    """
    device = device or default_device()
    classifier = partial(create_classifier, network)
    classifier(0)  # refuses unknown names before anything is read
    settings = _settings(sr or [DEFAULT_PRESET], scale, device, bicubic_residual)
    parts = pcam_datalists(dataset_dir, crops=crops)
    test = _spread(parts["test"], max_test)
    dataset = {"train": _fingerprint(parts["train"]), "test": _fingerprint(test)}
    about = {
        "experiment": "table4",
        "network": network,
        "scale": scale,
        "training": {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate},
        "dataset": dataset,
    }
    claim(output_dir, about)
    scores: dict[tuple[str, int], dict[str, float]] = {}
    weights = {}
    for seed in range(seeds):
        model, folder = classifier(seed), output_dir / f"{network}-seed{seed}"
        weights[folder.name] = checksum(
            train(
                model,
                partial(_training_set, parts["train"]),
                nn.CrossEntropyLoss(),
                folder,
                steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                seed=seed,
                device=device,
                num_workers=num_workers,
            )
        )
        for name, reconstructor in settings.items():
            file = folder / f"{name}-{reconstructor.name}.json"
            found = read_json(file)
            if found is None:
                blocks = PatchViews(name, reconstructor, output_dir / "images").blocks(test)
                total = -(-len(test) // _BLOCK)
                found = _classify(
                    model, tqdm(blocks, desc=f"{folder.name} on {name}", total=total, mininterval=pause()), device
                )
                write_json(file, found)
            scores[name, seed] = found
    report = manifest(PROTOCOL, dataset=dataset, device=device)
    report |= {**about, "seeds": list(range(seeds)), "classifier_sha256": weights, "reported": SOURCE}
    report["settings"] = {name: reconstructor.identity for name, reconstructor in settings.items()}
    report["scores"] = [{"setting": name, "seed": seed, **found} for (name, seed), found in scores.items()]
    write_json(output_dir / "manifest.json", report)
    counts = {part: len(parts[part]) for part in parts}
    _write(output_dir, _rows(scores, list(settings), len(test), seeds, scale), counts == PCAM_COUNTS)


def _settings(
    networks: Sequence[str], scale: float, device: str, bicubic_residual: bool | None
) -> dict[str, Reconstructor]:
    """The rows of the table, each with what makes its images; weights are loaded now: a wrong file shows at once."""
    bicubic = Reconstructor("bicubic", None, scale, device)
    settings = {"original": bicubic, "low_resolution": bicubic, "bicubic": bicubic}
    for text in networks:
        name, _, file = text.partition("=")
        if name in settings:
            raise ConfigError("every network once in --sr, and no bicubic", repr(name), "Its row is in the table.")
        settings[name] = Reconstructor(name, file or None, scale, device, bicubic_residual)
    return settings


def _spread(items: Items, count: int | None) -> Items:
    """At most so many items, evenly spread."""
    if count is None or count >= len(items):
        return items
    return [items[i * len(items) // count] for i in range(count)]


def _fingerprint(items: Items) -> dict[str, Any]:
    """How many patches, and a hash over a thousand of them, evenly spread: reading all of PCam would take minutes."""
    digest = hashlib.sha256()
    for item in _spread(items, 1000):
        digest.update(f"{item['name']} {item['label']} ".encode())
        digest.update(np.ascontiguousarray(item["image"]).tobytes())
    return {"count": len(items), "sha256": digest.hexdigest()}


def _rows(
    scores: Mapping[tuple[str, int], Mapping[str, float]], names: Sequence[str], images: int, seeds: int, scale: float
) -> list[dict[str, Any]]:
    """A row for every setting: means over the seeds, their deviation, and what the paper reports for that method."""
    rows = []
    for name in names:
        printed = reported(4, "pcam", name.removesuffix("_light").removesuffix("_small"), scale) or {}
        row: dict[str, Any] = {"setting": name, "images": images, "seeds": seeds}
        for metric in _METRICS:
            mean, deviation = mean_and_deviation([scores[name, seed][metric] for seed in range(seeds)])
            row |= {metric: mean, f"{metric}_std": deviation, f"{metric}_reported": printed.get(metric)}
        rows.append(row)
    return rows


def _write(folder: Path, rows: Sequence[dict[str, Any]], official: bool) -> None:
    write_csv(folder / "table4.csv", rows)
    digits = {f"{metric}{end}": n for metric, n in (("accuracy", 2), ("f1", 4)) for end in ("", "_std", "_reported")}
    lines = [markdown_table(rows, digits), ""]
    lines += [f"Columns `_reported`: {SOURCE}. `_std`: over seeds. Accuracy in percent, F1 of the tumour class."]
    lines += [f"Trained on originals. Degradation of the protocol {PROTOCOL}."]
    if not official:
        lines += ["These are not PCam's patches: do not compare with reported numbers."]
    with open_output(folder / "table4.md", overwrite=True) as file:
        file.write(("\n".join(lines) + "\n").encode())
    typer.echo("\n".join(lines))
