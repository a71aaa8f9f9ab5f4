"""Handlers that write results: weights, tables and images."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer, SimpleInferer
from monai.utils import string_list_all_gather
from torch import Tensor, nn

from monai_iste.bundle import resolved_settings
from monai_iste.errors import CheckpointError
from monai_iste.io.files import open_output
from monai_iste.io.json_files import write_json
from monai_iste.metrics import get_protocol
from monai_iste.metrics.fid import format_fid
from monai_iste.metrics.manifest import content_hash, fingerprint, manifest
from monai_iste.networks.weights import save_state
from monai_iste.visualize import comparison, to_picture


class ResultTable:
    """Collect one row per image, scale and method in ``engine.state.images`` after every run of an evaluator.

    A metric becomes a column if it exists for the network (``psnr``) and for bicubic interpolation (``bicubic_psnr``).
    The values per image come from ``engine.state.metric_details``, ``name`` and ``scale`` from the items. With several
    processes every process receives all rows.

    Args:
        method: name of the network in the table.
    """

    def __init__(self, method: str = "iste") -> None:
        self.method = method
        self._items: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: self._items.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._record)
        engine.add_event_handler(Events.COMPLETED, self._collect)

    def _record(self, engine: Engine) -> None:
        self._items += [f"{float(item['scale'])} {item['name']}" for item in engine.state.batch]  # type: ignore[union-attr]

    def _collect(self, engine: Engine) -> None:
        details: dict[str, torch.Tensor] = engine.state.metric_details  # type: ignore[attr-defined]
        items = [item.split(" ", 1) for item in string_list_all_gather(self._items)]
        metrics = [name for name in details if f"bicubic_{name}" in details]
        engine.state.images = [  # type: ignore[attr-defined]
            {
                "image": name,
                "scale": _int_if_whole(float(scale)),
                "method": method,
                **{metric: details[f"{prefix}{metric}"][i].item() for metric in metrics},
            }
            for method, prefix in (("bicubic", "bicubic_"), (self.method, ""))
            for i, (scale, name) in enumerate(items)
        ]


class TrainingReport:
    """Write the results of a training: ``model.pt``, ``metrics.json`` (also printed as a table), ``comparison.png``.

    The network is scored before its first step (``iste, initial``) and after its last (``iste``). Images and protocol
    are those of bicubic interpolation. ``model.pt`` holds the last weights, not the best of the validations, so that
    the table is not selected on the images it reports. The weights of the validation with the highest mean PSNR are
    saved as ``model_best.pt``. ``metrics.json`` states the conditions of the measurement under ``manifest``
    (:func:`monai_iste.metrics.manifest.manifest`). It is written last: with it a run is finished.

    The initial scores, the best PSNR and a hash of the images are part of the checkpoint. A resumed run reports the
    same, and does not resume with other images.

    Args:
        network: the network without wrappers, which is saved.
        evaluator: the evaluation engine, with a :class:`ResultTable` among its handlers.
        output_dir: folder of the files.
        protocol: name of the protocol of the evaluator's pre- and postprocessing.
        inferer: inferer of the images in ``comparison.png``; that of the evaluator.
        datalists: training and evaluation images, for the manifest.
        seed: seed of the training, for the manifest.
    Raises:
        CheckpointError: a checkpoint belongs to a run with other images.
    """

    def __init__(
        self,
        network: nn.Module,
        evaluator: SupervisedEvaluator,
        output_dir: str,
        protocol: str,
        inferer: Inferer | None = None,
        datalists: tuple[Sequence[dict], Sequence[dict]] | None = None,
        seed: int | None = None,
    ) -> None:
        self.network = network
        self.evaluator = evaluator
        self.output_dir = Path(output_dir)
        self.protocol = get_protocol(protocol)
        self.inferer = inferer or SimpleInferer()
        # Computed before the training, because an image may be unreadable.
        self.datasets = [fingerprint(datalist) for datalist in datalists] if datalists else [None, None]
        self.images = [content_hash(datalist) for datalist in datalists] if datalists else None
        self.seed = seed
        self.step0: list[dict[str, Any]] = []
        self.best = -math.inf

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._score_step0)
        engine.add_event_handler(Events.COMPLETED, self._write)
        self.evaluator.add_event_handler(Events.COMPLETED, self._keep_best)

    def state_dict(self) -> dict[str, Any]:
        return {"step0": self.step0, "best": self.best, "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("images", self.images) != self.images:
            raise CheckpointError(
                "the images of the unfinished run",
                "others, under these names or other ones",
                "Restore them, add --resume False to start again, or choose another --output_dir.",
            )
        self.step0, self.best = state["step0"], state["best"]

    def _keep_best(self, evaluator: Engine) -> None:
        psnr = float(evaluator.state.metrics["psnr"])
        if psnr > self.best:
            self.best = psnr
            if self.evaluator.state.rank == 0:
                self._save_weights("model_best.pt")

    def _save_weights(self, name: str) -> None:
        save_state(self.output_dir / name, self.network.state_dict())

    def _score_step0(self, engine: Engine) -> None:
        if not self.step0:
            self.step0 = [
                {**row, "method": f"{row['method']}, initial"} for row in self._score() if row["method"] != "bicubic"
            ]

    def _write(self, engine: Engine) -> None:
        images = self._score()
        bicubic = [row for row in images if row["method"] == "bicubic"]
        trained = [row for row in images if row["method"] != "bicubic"]
        images = bicubic + self.step0 + trained
        if self.evaluator.state.rank > 0:
            return
        self._save_weights("model.pt")
        record = manifest(
            self.protocol.name,
            self.output_dir / "model.pt",
            self.seed,
            self.datasets[1],
            **_conditions(self.evaluator),
        )
        with open_output(self.output_dir / "comparison.png", overwrite=True) as file:
            comparison(self._examples()).save(file, format="PNG")
        _write_metrics(self.output_dir, images, {**record, "training_dataset": self.datasets[0]})
        print(f"Wrote model.pt, metrics.json and comparison.png to {os.path.relpath(self.output_dir)}", flush=True)

    def _score(self) -> list[dict[str, Any]]:
        self.evaluator.run()
        return list(self.evaluator.state.images)

    @torch.no_grad()
    def _examples(self) -> list[dict[str, Any]]:
        """Compute the first evaluated image at each of its scales, after the protocol's postprocessing."""
        self.network.eval()
        device = self.evaluator.state.device
        examples: dict[float, dict[str, Any]] = {}
        for batch in self.evaluator.data_loader:
            scale = float(batch["scale"][0])
            if scale in examples:
                break
            pred = self.inferer(batch["image"].to(device), self.network, scale=scale)[0].cpu()
            item = {"image": batch["image"][0], "label": batch["label"][0], "pred": pred, "scale": scale}
            examples[scale] = {
                key: value.expand(3, -1, -1) if isinstance(value, Tensor) else value  # luma is shown as gray
                for key, value in dict(self.protocol.postprocessing()(item)).items()
            }
        return list(examples.values())


class EvaluationReport:
    """Write the results of an evaluation: ``metrics.json`` (also printed as a table) and ``metrics.csv``.

    ``metrics.json`` contains the means (``rows``), the conditions of the measurement (``manifest``, see
    :func:`monai_iste.metrics.manifest.manifest`) and the values of every image (``images``). ``metrics.csv`` has one
    line per image, scale and method. The Frechet inception distance is added as ``fid`` if its handler
    (:class:`monai_iste.metrics.fid.FrechetInceptionDistance`) precedes this one.

    Args:
        output_dir: folder of the files.
        protocol: name of the protocol of the evaluator's pre- and postprocessing.
        checkpoint: file of the evaluated weights, for the manifest.
        datalist: evaluated images, for the manifest.
    """

    def __init__(
        self, output_dir: str, protocol: str, checkpoint: str | None = None, datalist: Sequence[dict] | None = None
    ) -> None:
        self.output_dir, self.protocol, self.checkpoint = Path(output_dir), get_protocol(protocol), checkpoint
        self.dataset = fingerprint(datalist) if datalist else None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: SupervisedEvaluator) -> None:
        state: Any = engine.state
        if state.rank > 0:
            return
        record = manifest(self.protocol.name, self.checkpoint, dataset=self.dataset, **_conditions(engine))
        _write_csv(self.output_dir / "metrics.csv", state.images)
        _write_metrics(self.output_dir, state.images, record, getattr(state, "fid", None))


class SaveImages:
    """Save every prediction as an 8-bit PNG named ``{name}_x{scale}.png``.

    Args:
        output_dir: folder of the files; a ``name`` with slashes creates subfolders.
    """

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            path = self.output_dir / f"{item['name']}_x{float(item['scale']):g}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_output(path, overwrite=True) as file:
                to_picture(output["pred"]).save(file, format="PNG")


def mean_rows(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average every metric over images, for every scale and method, ordered by scale, then by first appearance."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in images:
        groups.setdefault((row["scale"], row["method"]), []).append(row)
    return [
        {
            "scale": scale,
            "method": method,
            **{
                metric: round(sum(r[metric] for r in rows) / len(rows), 5 if metric == "ssim" else 4)
                for metric in rows[0]
                if metric not in ("image", "scale", "method")
            },
            "images": len(rows),
        }
        for (scale, method), rows in sorted(groups.items(), key=lambda group: group[0][0])
    ]


def format_table(rows: list[dict[str, Any]], protocol: str) -> str:
    """Format rows as a text table, with the gain over bicubic at the same scale.

    Example:
        >>> print(format_table([{"scale": 2, "method": "bicubic", "psnr": 30.0, "ssim": 0.9}], "iste-rgb"))
        protocol iste-rgb
        scale  method        PSNR dB    SSIM    gain dB
        x2     bicubic         30.00  0.9000      +0.00
    """
    bicubic = {row["scale"]: row["psnr"] for row in rows if row["method"] == "bicubic"}
    lines = [f"protocol {protocol}", "scale  method        PSNR dB    SSIM    gain dB"]
    for row in rows:
        gain = f"{row['psnr'] - bicubic[row['scale']]:+.2f}" if row["scale"] in bicubic else ""
        lines.append(f"x{row['scale']:<5} {row['method']:<13}{row['psnr']:>8.2f}  {row['ssim']:.4f} {gain:>10}")
    return "\n".join(lines)


def _int_if_whole(scale: float) -> float | int:
    return int(scale) if scale.is_integer() else scale


def _write_metrics(
    folder: Path, images: list[dict[str, Any]], record: dict[str, Any], fid: dict[str, Any] | None = None
) -> None:
    name, rows = record["protocol"]["name"], mean_rows(images)
    report = {"protocol": name, "rows": rows, **({"fid": fid} if fid else {}), "manifest": record, "images": images}
    write_json(folder / "metrics.json", report)
    tables = [format_table(rows, name), *([format_fid(fid)] if fid else [])]
    print("", *tables, "", sep="\n", flush=True)


def _write_csv(path: Path, images: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(images[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(images)
    with open_output(path, overwrite=True) as file:
        file.write(text.getvalue().encode())


def _conditions(engine: SupervisedEvaluator) -> dict[str, Any]:
    """Return device, number format and settings of an evaluation, for the manifest."""
    device: torch.device = engine.state.device
    formats = {str(tensor.dtype).removeprefix("torch.") for tensor in engine.network.parameters()}
    if engine.amp:  # MONAI applies autocast on CUDA only
        formats.add(f"autocast {engine.amp_kwargs.get('dtype', torch.float16)} on CUDA")
    precision = ", ".join(sorted(formats)) or "float32"
    return {"device": device, "precision": precision, "config": resolved_settings()}
