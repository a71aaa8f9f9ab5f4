"""Validation of a training that ends when its score stops rising, and keeps the weights of the best one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from torch import nn
from tqdm import tqdm


class Validation(NamedTuple):
    """Validation of a training.

    Args:
        score: score of a network in evaluation mode; higher is better.
        every: epochs between two validations.
        patience: validations without a rise after which the training ends.
    """

    score: Callable[[nn.Module], float]
    every: int = 4
    patience: int = 8


class KeepBest:
    """Validate a network during its training, keep its best weights, and end the training when the score stops rising.

    Its state is part of the checkpoint, so that a resumed training ends as an uninterrupted one does.

    Args:
        network: network that is trained.
        validation: see :class:`Validation`.
        finish: called once, after the last validation.
    """

    def __init__(self, network: nn.Module, validation: Validation, finish: Callable[[], Any]) -> None:
        self.network, self.validation, self.finish = network, validation, finish
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validate)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.best = list(state["history"]), dict(state["best"])

    @property
    def best_score(self) -> float:
        """Highest score so far."""
        return max((entry["score"] for entry in self.history), default=-math.inf)

    @property
    def has_stopped_rising(self) -> bool:
        """True if the last ``patience`` validations were not above the best one before them."""
        scores = [entry["score"] for entry in self.history]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self.validation.patience

    def _validate(self, engine: Engine) -> None:
        last = engine.state.epoch == engine.state.max_epochs
        if engine.state.epoch % self.validation.every and not last:
            return
        self.network.eval()
        with torch.no_grad():
            score = float(self.validation.score(self.network))
        self.network.train()
        if score > self.best_score:
            self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.history.append({"step": engine.state.iteration, "score": score})
        tqdm.write(f"step {engine.state.iteration}: validation {score:.4f}, best {self.best_score:.4f}")
        if self.has_stopped_rising or last:
            self.finish()
            engine.terminate()
