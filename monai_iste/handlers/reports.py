"""Handlers that leave results behind: weights, tables, pictures."""

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
from torch import Tensor, nn

from monai_iste.engines import format_table, mean_rows
from monai_iste.io.files import open_output, write_json
from monai_iste.metrics import get_protocol
from monai_iste.metrics.fid import format_fid
from monai_iste.metrics.manifest import fingerprint, manifest
from monai_iste.visualize import comparison, to_picture


class TrainingReport:
    """What a training leaves behind: ``model.pt``, ``metrics.json``, the same as a printed table, ``comparison.png``.

    The network is scored before its first step (``iste_step0``) and after its last (``iste``), on the same images
    under the same protocol, with bicubic beside it. ``model.pt`` holds the last weights, not the best of the
    validations, so that the table is no selection on the images it reports; the weights with the highest mean PSNR
    of all validations are ``model_best.pt``. The scores of step 0 and the best so far travel in the checkpoint, so
    that a resumed run reports the same. ``metrics.json`` says under ``manifest`` what it was measured with
    (:func:`monai_iste.metrics.manifest.manifest`).

    Args:
        network: the network without wrappers, for saving.
        evaluator: the evaluation engine, with a :class:`~monai_iste.engines.ResultTable` among its handlers.
        output_dir: where the files go.
        protocol: name of the protocol that the evaluator's pre- and postprocessing come from.
        inferer: how the pictures are made; the evaluator's.
        datalists: training and evaluated images, for the manifest.
        seed: of the training, for the manifest.
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
        # Before the training, not after hours of it: an image may be unreadable.
        self.datasets = [fingerprint(datalist) for datalist in datalists] if datalists else [None, None]
        self.seed = seed
        self.step0: list[dict[str, Any]] = []
        self.best = -math.inf

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._before)
        engine.add_event_handler(Events.COMPLETED, self._after)
        self.evaluator.add_event_handler(Events.COMPLETED, self._keep_best)

    def state_dict(self) -> dict[str, Any]:
        return {"step0": self.step0, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step0, self.best = state["step0"], state["best"]

    def _keep_best(self, evaluator: Engine) -> None:
        psnr = float(evaluator.state.metrics["psnr"])
        if psnr > self.best:
            self.best = psnr
            if self.evaluator.state.rank == 0:
                self._save_weights("model_best.pt")

    def _save_weights(self, name: str) -> None:
        weights = io.BytesIO()  # written to a full disk, torch would end in an error of its own
        torch.save(self.network.state_dict(), weights)
        with open_output(self.output_dir / name, overwrite=True) as file:
            file.write(weights.getbuffer())

    def _before(self, engine: Engine) -> None:
        if not self.step0:
            self.step0 = [
                {**row, "method": f"{row['method']}_step0"} for row in self._score() if row["method"] != "bicubic"
            ]

    def _after(self, engine: Engine) -> None:
        images = self._score()
        bicubic = [row for row in images if row["method"] == "bicubic"]
        trained = [row for row in images if row["method"] != "bicubic"]
        images = bicubic + self.step0 + trained
        if self.evaluator.state.rank > 0:
            return
        self._save_weights("model.pt")
        origin = manifest(
            self.protocol.name,
            self.output_dir / "model.pt",
            self.seed,
            self.datasets[1],
            **_conditions(self.evaluator),
        )
        _write_metrics(self.output_dir, images, {**origin, "training_dataset": self.datasets[0]})
        with open_output(self.output_dir / "comparison.png", overwrite=True) as file:
            comparison(self._pictures()).save(file, format="PNG")
        print(f"Wrote model.pt, metrics.json and comparison.png to {os.path.relpath(self.output_dir)}", flush=True)

    def _score(self) -> list[dict[str, Any]]:
        self.evaluator.run()
        return list(self.evaluator.state.images)

    @torch.no_grad()
    def _pictures(self) -> list[dict[str, Any]]:
        """The first evaluated image at each of its scales, as it is scored."""
        self.network.eval()
        device = self.evaluator.state.device
        shown: dict[float, dict[str, Any]] = {}
        for batch in self.evaluator.data_loader:
            scale = float(batch["scale"][0])
            if scale in shown:
                break
            pred = self.inferer(batch["image"].to(device), self.network, scale=scale)[0].cpu()
            item = {"image": batch["image"][0], "label": batch["label"][0], "pred": pred, "scale": scale}
            shown[scale] = {
                key: value.expand(3, -1, -1) if isinstance(value, Tensor) else value  # luma is shown as gray
                for key, value in dict(self.protocol.postprocessing()(item)).items()
            }
        return list(shown.values())


class EvaluationReport:
    """What an evaluation leaves behind: ``metrics.json``, the same as a printed table, and ``metrics.csv``.

    ``metrics.json`` holds the means (``rows``), what they were measured with (``manifest``, see
    :func:`monai_iste.metrics.manifest.manifest`), and every image; ``metrics.csv`` has one line per image, scale and
    method.
    A Frechet inception distance joins them as ``fid`` when its handler stands before this one
    (:class:`monai_iste.metrics.fid.FrechetInceptionDistance`).

    Args:
        output_dir: where the files go.
        protocol: name of the protocol that the evaluator's pre- and postprocessing come from.
        checkpoint: the file of the evaluated weights, for the manifest.
        datalist: the evaluated images, for the manifest.
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
        origin = manifest(self.protocol.name, self.checkpoint, dataset=self.dataset, **_conditions(engine))
        _write_csv(self.output_dir / "metrics.csv", state.images)
        _write_metrics(self.output_dir, state.images, origin, getattr(state, "fid", None))


class SaveImages:
    """Inference handler: every prediction as an 8-bit PNG named ``{name}_x{scale}.png``.

    Args:
        output_dir: where the files go; subfolders follow the items' names.
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


def _write_metrics(
    folder: Path, images: list[dict[str, Any]], origin: dict[str, Any], fid: dict[str, Any] | None = None
) -> None:
    name, rows = origin["protocol"]["name"], mean_rows(images)
    report = {"protocol": name, "rows": rows, **({"fid": fid} if fid else {}), "manifest": origin, "images": images}
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
    """Device and number format of an evaluation, for the manifest."""
    device: torch.device = engine.state.device
    formats = {str(tensor.dtype).removeprefix("torch.") for tensor in engine.network.parameters()}
    if engine.amp:  # MONAI's autocast has no effect but on CUDA
        formats.add(f"autocast {engine.amp_kwargs.get('dtype', torch.float16)} on CUDA")
    return {"device": device, "precision": ", ".join(sorted(formats)) or "float32"}
