"""Exponential moving average of the weights, for validation and saving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from monai_iste.errors import ConfigError


class EMAWeights:
    """Maintain an exponential moving average of the weights during a training.

    With ``w_t`` the network's weights after step t and ``a_t`` their average::

        a_1 = w_1
        a_t = d_t a_(t-1) + (1 - d_t) w_t,   d_t = min(decay, t / (t + warmup - 1))

    The smaller d_t of the first steps discards the early weights quickly. Buffers are copied. Before the first step the
    average equals the initial network, pretrained or not.

    At a high learning rate, the weights oscillate around a minimum, and their average is closer to it.
    Not specified in the paper; our choice: an exponential average instead of a mean over the last epochs.

    The implementation uses PyTorch's AveragedModel, which counts the steps in its own state: a checkpoint contains all
    that a resumed training needs to continue bit for bit. Ignite's EMAHandler is not used, because its warm-up is not
    part of the checkpoint and it starts from the weights at construction, before pretrained weights are loaded.

    In a configuration, place it after the handlers that load weights (``LoadWeights``, ``Checkpoints``) and before
    :class:`~monai_iste.handlers.TrainingReport`, add it to the state of ``Checkpoints``, and use :attr:`network` for
    validation and saving: see ``configs/light_scans.json``.

    Args:
        network: the network without wrappers, on its device.
        decay: weight of the previous average at each step, in [0, 1); averages over about 1 / (1 - decay) steps.
        warmup: slows the rise of d_t to ``decay``; 1 disables the warm-up.
    Raises:
        ConfigError: a parameter is out of range.

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
        self._average = AveragedModel(network, multi_avg_fn=self._ema_update).requires_grad_(False).eval()

    @property
    def network(self) -> nn.Module:
        """Network with the averaged weights; the same object during the whole training."""
        module: nn.Module = self._average.module
        return module

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._copy_initial_weights)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self) -> None:
        """Update the average with the current weights of the network."""
        self._average.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state)

    def _copy_initial_weights(self) -> None:
        if int(self._average.n_averaged) == 0:  # not resumed
            self.network.load_state_dict(self.source.state_dict())

    def _ema_update(self, averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        done = int(steps)
        decay = min(self.decay, (done + 1) / (done + self.warmup))
        with torch.no_grad():
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, 1 - decay)
