"""The handler that keeps a moving average of the weights: what is scored and saved, while the raw ones learn on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from monai_iste.errors import ConfigError


class EMAWeights:
    """An exponential moving average of the weights over the steps of a training.

    With ``w_t`` the network's weights after step t and ``a_t`` their average::

        a_1 = w_1
        a_t = d_t a_(t-1) + (1 - d_t) w_t,   d_t = min(decay, t / (t + warmup - 1))

    so it forgets quickly at first, when the weights are still far from good. Buffers are copied. Before the first step
    the average is the network as it starts, pretrained or not.

    Steps of a training with a high learning rate jump about a minimum; their average lies nearer to it. Paper silent:
    ours, in place of a mean over the last epochs.

    PyTorch's AveragedModel does the work: it counts its steps in its own state, so a checkpoint holds all that a
    resumed training needs to go on bit for bit. Ignite's EMAHandler keeps its warm-up outside of the checkpoint, and
    starts from the weights of its construction, before pretrained ones are read.

    In a configuration it stands after the handlers that read weights (``LoadWeights``, ``Checkpoints``) and before
    :class:`~monai_iste.handlers.TrainingReport`, and in the state of ``Checkpoints``; :attr:`network` takes the place
    of the network wherever it is scored or saved: see ``configs/light_scans.json``.

    Args:
        network: the network without wrappers, on its device.
        decay: what remains of the average at a step, in [0, 1); it looks back over some 1 / (1 - decay) steps.
        warmup: how slowly the decay is reached; 1 has it from the second step on.
    Raises:
        ConfigError: a setting out of range.

    Example:
        >>> source = nn.Linear(1, 1, bias=False)
        >>> averaging = EMAWeights(source, decay=0.9, warmup=1)
        >>> for weight in (0.0, 1.0, 2.0):
        ...     _ = nn.init.constant_(source.weight, weight)
        ...     averaging.update()
        >>> round(averaging.network.weight.item(), 4)  # 0.9 (0.9 * 0 + 0.1 * 1) + 0.1 * 2
        0.29
    """

    def __init__(self, network: nn.Module, decay: float = 0.999, warmup: float = 10.0) -> None:
        if not (0 <= decay < 1 and warmup >= 1):
            raise ConfigError(
                "a decay in [0, 1) and a warmup of at least 1", f"{decay} and {warmup}", "Try 0.999 and 10."
            )
        self.source, self.decay, self.warmup = network, decay, warmup
        self._average = AveragedModel(network, multi_avg_fn=self._blend).requires_grad_(False).eval()

    @property
    def network(self) -> nn.Module:
        """The network with the averaged weights; one object for the whole training."""
        module: nn.Module = self._average.module
        return module

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self) -> None:
        """Take the network's present weights into the average."""
        self._average.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state)

    def _begin(self) -> None:
        if int(self._average.n_averaged) == 0:  # not resumed
            self.network.load_state_dict(self.source.state_dict())

    def _blend(self, averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        done = int(steps)
        decay = min(self.decay, (done + 1) / (done + self.warmup))
        with torch.no_grad():
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, 1 - decay)
