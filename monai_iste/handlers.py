"""Ignite handlers of the training bundle: progress, safety, resuming, and the report at the end."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointLoader, CheckpointSaver
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn
from tqdm import tqdm

from monai_iste.engines import format_table, mean_rows
from monai_iste.errors import CheckpointError, TrainingError
from monai_iste.manifest import fingerprint, manifest
from monai_iste.metrics import get_protocol
from monai_iste.metrics.fid import format_fid
from monai_iste.networks import load_weights
from monai_iste.visualise import comparison, to_picture

__all__ = [
    "Checkpoints",
    "ClipGradients",
    "EvaluationReport",
    "LoadWeights",
    "SaveImages",
    "StopOnNonFiniteLoss",
    "TrainingProgress",
    "TrainingReport",
]


class TrainingProgress:
    """One bar for the whole training: steps, time left, loss, and PSNR after each validation.

    Args:
        evaluator: the validation engine whose ``psnr`` is shown.
    """

    def __init__(self, evaluator: SupervisedEvaluator) -> None:
        self.evaluator = evaluator
        self._bar: tqdm[Any] | None = None
        self._shown: dict[str, str] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.INTERRUPT, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        self.evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def _open(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        pause = 1.0 if sys.stderr.isatty() else 10.0  # a log file keeps every line
        self._bar = tqdm(total=total, initial=engine.state.iteration, unit="step", desc="training", mininterval=pause)

    def _step(self, engine: Engine) -> None:
        if self._bar is not None:
            self._shown["loss"] = f"{_loss(engine):.4f}"
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update()

    def _validated(self, evaluator: Engine) -> None:
        psnr, bicubic = (evaluator.state.metrics[key] for key in ("psnr", "bicubic_psnr"))
        self._shown["psnr"] = f"{psnr:.2f} ({psnr - bicubic:+.2f} over bicubic)"

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _fail(self, engine: Engine, error: Exception) -> None:
        self._close(engine)
        raise error  # Ignite takes an exception as handled by whoever listens to it


class ClipGradients:
    """Clip the gradient's norm before every optimiser step ("paper silent"; it lets small networks learn faster).

    Args:
        network: whose gradients are clipped.
        max_norm: the largest norm that passes unchanged.
    """

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip)

    def _clip(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class StopOnNonFiniteLoss:
    """End the training before a loss that is NaN or infinite reaches the weights.

    Raises:
        TrainingError: names the step; checkpoints written before it are untouched.
    """

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        if not math.isfinite(_loss(engine)):
            raise TrainingError(
                "a finite loss",
                f"{_loss(engine)} at step {engine.state.iteration}",
                "The last good checkpoint is kept: lower --learning_rate and type the command again to go on from it.",
            )


class Checkpoints:
    """The whole state of a training after every epoch, the last two kept, and the way back from one of them.

    MONAI's CheckpointSaver and CheckpointLoader, with one sentence instead of a page when a checkpoint does not fit.

    Args:
        save_dir: folder of the files ``checkpoint_epoch=N.pt``.
        state: what is saved beside the trainer itself, objects with ``state_dict`` and ``load_state_dict``.
        resume_from: the checkpoint to go on from, or None; see :func:`monai_iste.bundle.resume_point`.
    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """

    def __init__(self, save_dir: str, state: dict[str, Any], resume_from: str | None = None) -> None:
        self.save_dir, self.state, self.resume_from = save_dir, state, resume_from

    def attach(self, engine: Engine) -> None:
        state = {**self.state, "trainer": engine}
        if self.resume_from is not None:
            device = engine.state.device  # type: ignore[attr-defined]
            loader = CheckpointLoader(self.resume_from, state, map_location=device)
            engine.add_event_handler(Events.STARTED, self._resume, loader)
        CheckpointSaver(self.save_dir, state, save_interval=1, n_saved=2).attach(engine)

    def _resume(self, engine: Engine, loader: CheckpointLoader) -> None:
        path = os.path.relpath(loader.load_path)
        try:
            loader(engine)
        except Exception as error:
            raise CheckpointError(
                "a checkpoint of the network that is being trained",
                f"{path} ({str(error).strip().splitlines()[0]})",
                "Add --resume False to start anew, or choose another --output_dir.",
            ) from error
        tqdm.write(f"Resumed {path} after step {engine.state.iteration}.")


class TrainingReport:
    """What a training leaves behind: ``model.pt``, ``metrics.json``, the same as a printed table, ``comparison.png``.

    The network is scored before its first step (``iste_step0``) and after its last (``iste``), on the same images
    under the same protocol, with bicubic beside it. ``model.pt`` holds the last weights, not the best of the
    validations, so that the table is no selection on the images it reports; the weights with the highest mean PSNR
    of all validations are ``model_best.pt``. The scores of step 0 and the best so far travel in the checkpoint, so
    that a resumed run reports the same. ``metrics.json`` says under ``manifest`` what it was measured with
    (:func:`monai_iste.manifest.manifest`).

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
        _save(self.output_dir / name, lambda path: torch.save(self.network.state_dict(), path))

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
        pictures = comparison(self._pictures())
        _save(self.output_dir / "comparison.png", lambda path: pictures.save(path, format="PNG"))
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
                key: value.expand(3, -1, -1) if isinstance(value, Tensor) else value  # luma is shown as grey
                for key, value in dict(self.protocol.postprocessing()(item)).items()
            }
        return list(shown.values())


class LoadWeights:
    """Fill the network with the weights in a file before the run starts (:func:`monai_iste.networks.load_weights`).

    Args:
        network: the network without wrappers.
        path: ``.safetensors`` or ``.pt``.
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another network.
    """

    def __init__(self, network: nn.Module, path: str) -> None:
        self.network, self.path = network, path

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: load_weights(self.network, self.path))


class EvaluationReport:
    """What an evaluation leaves behind: ``metrics.json``, the same as a printed table, and ``metrics.csv``.

    ``metrics.json`` holds the means (``rows``), what they were measured with (``manifest``, see
    :func:`monai_iste.manifest.manifest`), and every image; ``metrics.csv`` has one line per image, scale and method.
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
            picture = to_picture(output["pred"])
            path = self.output_dir / f"{item['name']}_x{float(item['scale']):g}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, lambda part, picture=picture: picture.save(part, format="PNG"))


def _write_metrics(
    folder: Path, images: list[dict[str, Any]], origin: dict[str, Any], fid: dict[str, Any] | None = None
) -> None:
    name, rows = origin["protocol"]["name"], mean_rows(images)
    report = {"protocol": name, "rows": rows, **({"fid": fid} if fid else {}), "manifest": origin, "images": images}
    _save(folder / "metrics.json", lambda path: path.write_text(json.dumps(report, indent=1) + "\n"))
    tables = [format_table(rows, name), *([format_fid(fid)] if fid else [])]
    print("", *tables, "", sep="\n", flush=True)


def _write_csv(path: Path, images: list[dict[str, Any]]) -> None:
    def write(part: Path) -> None:
        with open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, ("image", "scale", "method", "psnr", "ssim"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(images)

    _save(path, write)


def _conditions(engine: SupervisedEvaluator) -> dict[str, Any]:
    """Device and number format of an evaluation, for the manifest."""
    device: torch.device = engine.state.device
    formats = {str(tensor.dtype).removeprefix("torch.") for tensor in engine.network.parameters()}
    if engine.amp:  # MONAI's autocast has no effect but on CUDA
        formats.add(f"autocast {engine.amp_kwargs.get('dtype', torch.float16)} on CUDA")
    return {"device": device, "precision": ", ".join(sorted(formats)) or "float32"}


def _loss(engine: Engine) -> float:
    """The loss of the current step, before or after MONAI has split the batch into items."""
    output: Any = engine.state.output
    loss = (output[0] if isinstance(output, list) else output)["loss"]
    return float(loss.detach()) if isinstance(loss, Tensor) else float(loss)


def _save(path: Path, write: Any) -> None:
    """Write under a temporary name, then rename: a file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    os.replace(temporary, path)
