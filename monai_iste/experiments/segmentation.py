"""Table III: are reconstructions as good as originals for segmenting glands? A U-Net on GlaS at x4.

Implements the segmentation experiment of Sec. IV of Duan et al., arXiv:2401.15613. Every image is reduced by the
protocol ``iste-rgb`` and magnified again by the same scale, by bicubic interpolation or by a network:

| setting | the U-Net is trained on | and run on |
|---|---|---|
| bicubic | originals | bicubic magnifications |
| hr_unet | reconstructions | originals |
| sisr | originals | reconstructions |
| original | originals | originals |

So there are two U-Nets, and three settings share one of them. Paper silent on what the U-Net of the bicubic row is
trained on (originals here, so that only the images differ from the last two rows), on the U-Net itself, its training,
and how its pixels become glands: see :class:`GlandTask` and :func:`instances`.

The released weights of iste_light were trained on GlaS tiles by this project's split, so tiles of the challenge's test
sets are among them. With the challenge's sets, name weights that were trained elsewhere; the table says so otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import numpy as np
import torch
import typer
from monai.data import CacheDataset
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandFlipd,
    RandRotate90d,
    RandSpatialCropd,
    ScaleIntensityRanged,
    SpatialPadd,
    Transform,
)
from scipy import ndimage
from skimage.segmentation import expand_labels
from torch import nn
from tqdm import tqdm

from monai_iste.data.benchmarks import GLAS_COUNTS, glas_datalists, read_instances
from monai_iste.data.io import image_size, read_rgb
from monai_iste.errors import ConfigError
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
from monai_iste.images import make_folder, open_output, save_image
from monai_iste.magnify import default_device
from monai_iste.manifest import checksum, fingerprint, manifest
from monai_iste.metrics.glands import GlandScores
from monai_iste.networks.presets import DEFAULT_PRESET

__all__ = ["SETTINGS", "GlandTask", "Setting", "class_map", "instances", "table3"]

_METRICS = {"f1": 3, "object_dice": 3, "object_hausdorff": 2}
_TEST_SETS = {"testA": "glas_a", "testB": "glas_b"}


class Setting(NamedTuple):
    """A row of the table: the kind of images that its U-Net is trained on, and the kind that it is run on."""

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


# --- from glands to classes and back ----------------------------------------------------------------------------------


def class_map(labels: np.ndarray, border: int = 0) -> np.ndarray:
    """What the U-Net learns: 0 around glands, 1 in them, and with a border 2 along their edge.

    Args:
        border: a gland's pixels that have other ground or another gland within so many rows and columns are of class 2.
    Shape:
        labels: (H, W), one number per gland; returns (H, W), uint8

    Example:
        >>> class_map(np.array([[0, 5, 5, 5, 7, 7, 7]]), border=1).tolist()
        [[0, 2, 1, 2, 2, 1, 1]]
    """
    glands = (labels > 0).astype(np.uint8)
    if border:
        around = (ndimage.minimum_filter, ndimage.maximum_filter)
        lowest, highest = (extreme(labels, 2 * border + 1, mode="nearest") for extreme in around)
        glands[(labels > 0) & (lowest != highest)] = 2
    return glands


def instances(classes: np.ndarray, border: int = 0, min_area: int = 400) -> np.ndarray:
    """Glands from classes: connected regions (by edges) of class 1, without small holes and small regions.

    First holes below ``min_area`` are filled, then regions below it are removed; with a border the regions grow back
    over class 2, by at most ``border`` rows and columns (their diagonal, as a distance). Paper silent: one gland in
    fifty is smaller than 1,000 pixels in GlaS.

    Args:
        border: that of :func:`class_map`.
        min_area: pixels.
    Shape:
        classes: (H, W); returns (H, W), int32: 1, 2, ... for glands, 0 elsewhere

    Example:
        >>> instances(np.array([[1, 1, 0, 1, 0, 0, 1, 1]]), min_area=2).tolist()
        [[1, 1, 1, 1, 0, 0, 2, 2]]
    """
    inside = ~_without_small(classes != 1, min_area)
    labels, _ = ndimage.label(_without_small(inside, min_area))
    if border:
        grown = expand_labels(labels, distance=border * 2**0.5)
        labels = np.where((labels > 0) | (classes == 2), grown, 0)
    return labels.astype(np.int32)


def _without_small(mask: np.ndarray, min_area: int) -> np.ndarray:
    regions, _ = ndimage.label(mask)
    large = np.bincount(regions.ravel()) >= min_area
    large[0] = False
    return large[regions]


# --- the U-Net --------------------------------------------------------------------------------------------------------


class _ReadGlands(Transform):
    """{image, mask: paths} -> {image: (3, H, W), label: (1, H, W)}, both uint8, cropped to what the scale needs."""

    def __init__(self, border: int) -> None:
        self.border = border

    def __call__(self, item: Mapping[Any, Any]) -> dict[Any, Any]:
        image, labels = _read(item)
        return {"image": image, "label": class_map(labels, self.border)[None]}


def _read(item: Mapping[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of one size: that of the smaller, from the upper left, as the protocol crops."""
    image, labels = read_rgb(item["image"]), read_instances(item["mask"])
    height, width = item.get("size", image.shape[1:])
    return image[:, :height, :width], labels[:height, :width]


class GlandTask:
    """MONAI's U-Net for glands: five levels, two residual units in each, batch normalisation; Dice and cross entropy.

    Paper silent on all of it. Random crops, flips and quarter turns in training; sliding windows of the crops' size
    with Gaussian weights in the evaluation.

    Args:
        width: channels of the first level; each further level has twice as many.
        crop: side of the crops and windows, pixels, a multiple of 16.
        border: width of the third class that keeps glands apart, see :func:`class_map`; 0 for two classes.
        min_area: see :func:`instances`.
        device: where it runs.
    Raises:
        ConfigError: a size that cannot work.
    """

    def __init__(
        self, width: int = 16, crop: int = 256, border: int = 0, min_area: int = 400, device: str = "cpu"
    ) -> None:
        if crop < 32 or crop % 16 or width < 1:
            raise ConfigError(
                "a crop of a multiple of 16 from 32 up and a width of at least 1",
                f"{crop} and {width}",
                "The default is 256 and 16.",
            )
        self.width, self.crop, self.border, self.min_area, self.device = width, crop, border, min_area, device

    def network(self, seed: int) -> nn.Module:
        """A U-Net with random weights of that seed."""
        torch.manual_seed(seed)
        channels = tuple(self.width * 2**level for level in range(5))
        classes = 3 if self.border else 2
        return UNet(2, 3, classes, channels, (2, 2, 2, 2), num_res_units=2, norm="batch")

    def dataset(self, items: Sequence[Mapping[str, Any]]) -> CacheDataset:
        """Training items {image: (3, crop, crop), label: (1, crop, crop)}, float32; all images are held in memory."""
        keys, size = ("image", "label"), (self.crop, self.crop)
        return CacheDataset(
            items,
            Compose(
                [
                    _ReadGlands(self.border),
                    SpatialPadd(keys, size, mode="edge"),
                    RandSpatialCropd(keys, size, random_size=False),
                    RandFlipd(keys, prob=0.5, spatial_axis=0),
                    RandFlipd(keys, prob=0.5, spatial_axis=1),
                    RandRotate90d(keys, prob=0.5, max_k=3),
                    ScaleIntensityRanged("image", 0, 255, 0, 1),
                    EnsureTyped(keys, dtype=torch.float32, track_meta=False),
                ]
            ),
            progress=False,
        )

    def loss(self) -> nn.Module:
        """The mean of Dice over the classes, plus cross entropy."""
        return DiceCELoss(to_onehot_y=True, softmax=True)

    @torch.no_grad()
    def score(self, network: nn.Module, items: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The three scores of :class:`~monai_iste.metrics.glands.GlandScores` over the images."""
        network.to(self.device).eval()
        inferer = SlidingWindowInferer((self.crop, self.crop), sw_batch_size=4, overlap=0.25, mode="gaussian")
        scores = GlandScores()
        for item in items:
            image, labels = _read(item)
            batch = torch.from_numpy(np.ascontiguousarray(image))[None].float().to(self.device) / 255
            classes = inferer(batch, network)[0].argmax(0).cpu().numpy()
            scores.add(instances(classes, self.border, self.min_area), labels)
        return scores.as_dict()


# --- the images -------------------------------------------------------------------------------------------------------


def _reconstruct(
    items: Sequence[Mapping[str, Any]], reconstructor: Reconstructor, folder: Path
) -> list[dict[str, Any]]:
    """The same items with reconstructions as their images: PNG files that are made once, each complete or absent."""
    folder = folder / reconstructor.name
    make_folder(folder)
    result = []
    for item in tqdm(items, desc=reconstructor.name, mininterval=pause(), disable=not items):
        path = folder / f"{item['name']}.png"
        if not path.is_file():
            again = reconstructor(item["image"])[2]
            save_image(path, [again.transpose(1, 2, 0)], (again.shape[1], again.shape[2]))
        result.append({**item, "image": str(path)})
    return result


def _kinds(
    lists: Mapping[str, Sequence[Mapping[str, Any]]], reconstructor: Reconstructor, folder: Path
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The items of every part, by the kind of their images: original, bicubic, reconstructed, all of one size."""
    bicubic = Reconstructor("bicubic", scale=reconstructor.scale)
    tests = {part: lists[part] for part in _TEST_SETS}  # nothing is trained on bicubic images
    kinds = {
        "bicubic": {part: _reconstruct(items, bicubic, folder) for part, items in tests.items()},
        "reconstructed": {part: _reconstruct(items, reconstructor, folder) for part, items in lists.items()},
    }
    kinds["original"] = {
        part: [
            {**item, "size": image_size(again["image"])}
            for item, again in zip(lists[part], kinds["reconstructed"][part], strict=True)
        ]
        for part in lists
    }
    return kinds


# --- the command ------------------------------------------------------------------------------------------------------


def table3(
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="GlaS: the folder of Grade.csv or index.csv.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where everything goes; goes on there.")] = Path(
        "table3"
    ),
    preset: Annotated[str, typer.Option("--preset", help="The network that reconstructs.")] = DEFAULT_PRESET,
    weights: Annotated[Optional[Path], typer.Option("--weights", help="Its weights; default: the released.")] = None,
    bicubic_residual: Annotated[
        Optional[bool], typer.Option(help="Whether it learned the difference to bicubic; default: the preset's.")
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Reduction and magnification.")] = 4.0,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of each U-Net, rounded up to epochs of 50.")] = 2000,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each U-Net; more can follow later.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Crops per step.")] = 4,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of Adam, at the start.")] = 1e-3,
    crop: Annotated[int, typer.Option("--crop", help="Side of the crops, pixels.")] = 256,
    width: Annotated[int, typer.Option("--width", help="Channels of the U-Net's first level.")] = 16,
    border: Annotated[int, typer.Option("--border", min=0, help="Width of a third class along edges; 0: none.")] = 0,
    min_area: Annotated[int, typer.Option("--min-area", min=0, help="Smaller glands and holes are dropped.")] = 400,
    num_workers: Annotated[int, typer.Option("--num-workers", min=0, help="Processes that load crops.")] = 0,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
) -> None:
    """Table III: segment glands in originals and reconstructions with a U-Net (GlaS).

    Writes table3.csv, table3.md and manifest.json. An interrupted run goes on where it was when it is repeated.
    """
    device = device or default_device()
    task = GlandTask(width, crop, border, min_area, device)
    lists = glas_datalists(dataset_dir)
    reconstructor = Reconstructor(preset, weights, scale, device, bicubic_residual)
    dataset = {part: fingerprint(items) for part, items in lists.items()}
    settings = {
        "experiment": "table3",
        "reconstruction": reconstructor.identity,
        "unet": {"width": width, "crop": crop, "border": border, "min_area": min_area},
        "training": {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate},
        "dataset": dataset,
    }
    claim(output_dir, settings)
    kinds = _kinds(lists, reconstructor, output_dir / "images")
    scores, unets = {}, {}
    for seed in range(seeds):
        for kind in dict.fromkeys(setting.trained_on for setting in SETTINGS.values()):
            folder = output_dir / f"unet-{kind}-seed{seed}"
            network = task.network(seed)
            unets[folder.name] = checksum(
                train(
                    network,
                    partial(task.dataset, kinds[kind]["train"]),
                    task.loss(),
                    folder,
                    steps=steps,
                    batch_size=batch_size,
                    learning_rate=learning_rate,
                    seed=seed,
                    device=device,
                    num_workers=num_workers,
                )
            )
            for name, setting in SETTINGS.items():
                if setting.trained_on == kind:
                    scores[name, seed] = _scored(task, network, kinds[setting.run_on], folder / f"{name}.json")
    rows = _rows(scores, {part: len(lists[part]) for part in _TEST_SETS}, seeds, scale)
    report = manifest(PROTOCOL, dataset=dataset, device=device)
    report |= {**settings, "seeds": list(range(seeds)), "unet_sha256": unets, "reported": SOURCE}
    report["scores"] = [{"setting": name, "seed": seed, **found} for (name, seed), found in scores.items()]
    write_json(output_dir / "manifest.json", report)
    _write(output_dir, rows, {part: len(items) for part, items in lists.items()}, own_weights=weights is not None)


def _scored(
    task: GlandTask, network: nn.Module, images: Mapping[str, Sequence[Mapping[str, Any]]], file: Path
) -> dict[str, dict[str, float]]:
    """The scores on each test set that has images, from the file if they are there."""
    found: dict[str, dict[str, float]] | None = read_json(file)
    if found is None:
        typer.echo(f"{file.parent.name}: segmenting for {file.stem}", err=True)
        found = {part: task.score(network, images[part]) for part in _TEST_SETS if images[part]}
        write_json(file, found)
    return found


def _rows(
    scores: Mapping[tuple[str, int], Mapping[str, Mapping[str, float]]],
    images: Mapping[str, int],
    seeds: int,
    scale: float,
) -> list[dict[str, Any]]:
    """A row for every setting and test set: means over the seeds, their deviation, what the paper reports."""
    rows = []
    for name, setting in SETTINGS.items():
        for part, paper in _TEST_SETS.items():
            if not images[part]:
                continue
            row: dict[str, Any] = {"setting": name, "trained_on": setting.trained_on, "run_on": setting.run_on}
            row |= {"test_set": part, "images": images[part], "seeds": seeds}
            printed = reported(3, paper, name, scale) or {}
            for metric in _METRICS:
                mean, deviation = mean_and_deviation([scores[name, seed][part][metric] for seed in range(seeds)])
                row |= {metric: mean, f"{metric}_std": deviation, f"{metric}_reported": printed.get(metric)}
            rows.append(row)
    return rows


def _write(folder: Path, rows: Sequence[dict[str, Any]], counts: Mapping[str, int], own_weights: bool) -> None:
    write_csv(folder / "table3.csv", rows)
    digits = {f"{metric}{ending}": n for metric, n in _METRICS.items() for ending in ("", "_std", "_reported")}
    lines = [markdown_table(rows, digits), ""]
    lines += [
        f"Columns `_reported`: {SOURCE}. `_std`: over seeds. F1, object Dice and object Hausdorff distance (pixels)"
    ]
    lines += [f"of the GlaS challenge, objects pooled over a test set. Degradation of the protocol {PROTOCOL}."]
    if counts != GLAS_COUNTS:
        sizes = ", ".join(f"{part} {count}" for part, count in counts.items())
        lines += [f"These are not the challenge's sets ({sizes} images): do not compare with reported numbers."]
    elif not own_weights:
        lines += ["The released weights have seen tiles of these test sets: for a result, name others with --weights."]
    with open_output(folder / "table3.md", overwrite=True) as file:
        file.write(("\n".join(lines) + "\n").encode())
    typer.echo("\n".join(lines))
