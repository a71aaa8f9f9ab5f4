"""Training handlers: progress bar, safety checks, initial weights."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import AdversarialKeys, CommonKeys
from torch import Tensor, nn

from monai_iste.bundle import is_main
from monai_iste.errors import TrainingError
from monai_iste.networks import load_weights
from monai_iste.networks.presets import require_weights
from monai_iste.networks.runtime import check_learned_blur
from monai_iste.progress import ProgressBar


class TrainingProgress:
    """Show one progress bar for the whole training: steps, remaining time, loss, and PSNR of the last validation.

    Args:
        evaluator: validation engine that provides ``psnr`` and ``bicubic_psnr``.
    """

    def __init__(self, evaluator: SupervisedEvaluator) -> None:
        self.evaluator = evaluator
        self._bar: ProgressBar | None = None
        self._shown: dict[str, str] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.INTERRUPT, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        self.evaluator.add_event_handler(Events.COMPLETED, self._show_psnr)

    def _open(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        interval = 1.0 if sys.stderr.isatty() else 10.0  # a log file keeps every line
        self._bar = ProgressBar(
            total=total, initial=engine.state.iteration, unit="step", desc="training", mininterval=interval
        )

    def _step(self, engine: Engine) -> None:
        if self._bar is not None:
            self._shown["loss"] = f"{_losses(engine)[0]:.4f}"
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update()

    def _show_psnr(self, evaluator: Engine) -> None:
        psnr, bicubic = (evaluator.state.metrics[key] for key in ("psnr", "bicubic_psnr"))
        self._shown["psnr"] = f"{psnr:.2f} ({psnr - bicubic:+.2f} over bicubic)"

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _fail(self, engine: Engine, error: Exception) -> None:
        self._close(engine)
        raise error  # Ignite does not raise an exception again if a handler listens for it


class ClipGradients:
    """Clip the norm of the gradients before every optimizer step.

    Not specified in the paper; our choice: it lets small networks learn faster.

    Args:
        network: the network whose gradients are clipped.
        max_norm: largest norm that is not clipped.
    """

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip)

    def _clip(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class StopOnNonFiniteLoss:
    """Stop the training before a NaN or infinite loss changes the weights.

    Raises:
        TrainingError: the loss is not finite; the step is named, and earlier checkpoints are kept.
    """

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        loss = next((loss for loss in _losses(engine) if not math.isfinite(loss)), None)
        if loss is not None:
            raise TrainingError(
                "a finite loss",
                f"{loss} at step {engine.state.iteration}",
                "The last good checkpoint is kept: lower --learning_rate and run the command again to resume from it.",
            )


class LoadWeights:
    """Load the weights of a file into the network before the run starts, and print the name of the file.

    Args:
        network: the network without wrappers.
        path: ``.safetensors`` or ``.pt`` file (:func:`monai_iste.networks.load_weights`); None if there is none, see
            :func:`monai_iste.bundle.find_weights`.
        preset: preset of the network.
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another network.
        ConfigError: ``path`` is None and no weights are released for the preset, or the network is told a blur that
            the released weights did not learn.
    """

    def __init__(self, network: nn.Module, path: str | None, preset: str) -> None:
        self.network, self.path, self.preset = network, path, preset

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self) -> None:
        if not self.network.state_dict():  # bicubic interpolation has no weights
            return
        path = self.path or require_weights(self.preset)
        check_learned_blur(self.preset, path, getattr(self.network, "input_blur", None))
        load_weights(self.network, path)
        if is_main():
            print(f"Network {self.preset} with the weights in {os.path.relpath(path)}", flush=True)


def _losses(engine: Engine) -> list[float]:
    """Return the losses of the current step: that of the network and, in adversarial training, of the discriminator.

    The discriminator has no loss before its first update. MONAI's output is one dictionary, or a list of them once the
    batch has been split into items.
    """
    output: Any = engine.state.output
    item = output[0] if isinstance(output, list) else output
    losses = [item[key] for key in (CommonKeys.LOSS, AdversarialKeys.DISCRIMINATOR_LOSS) if key in item]
    return [float(loss.detach()) if isinstance(loss, Tensor) else float(loss) for loss in losses]
