"""Learning-rate schedules, and the length of those that are resumed."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim.lr_scheduler import CosineAnnealingLR

from monai_iste.errors import ConfigError


def hold_then_cosine(
    total: int, warmup: int = 200, anneal: int = 20_000, floor: float = 0.01
) -> Callable[[int], float]:
    """Return the factor of the learning rate at each step: a linear rise, a plateau, then a cosine to ``floor``.

    With a plateau, a training may be continued for longer than was planned: only its last part depends on its length. A
    function has no state in a checkpoint, so that a resumed training follows the settings that it is given.

    Not specified in the paper; our choice: for long trainings of light networks.

    Args:
        total: steps of the training.
        warmup: steps of the rise.
        anneal: steps of the fall; at most those after the rise.
        floor: last factor.
    Raises:
        ConfigError: a number of steps is negative, or the floor is not in [0, 1].

    Example:
        >>> factor = hold_then_cosine(total=100, warmup=4, anneal=50, floor=0.1)
        >>> [round(factor(step), 3) for step in (0, 3, 50, 75, 100)]
        [0.25, 1.0, 1.0, 0.55, 0.1]
    """
    if min(total, warmup, anneal) < 0 or not 0 <= floor <= 1:
        raise ConfigError(
            "steps of at least 0 and a floor in [0, 1]",
            f"total {total}, warmup {warmup}, anneal {anneal}, floor {floor}",
            "Try 100000, 200, 20000, 0.01.",
        )
    fall = min(anneal, max(0, total - warmup))

    def factor(step: int) -> float:
        done = min(1.0, (step - (total - fall)) / fall) if fall else 0.0
        cosine = floor + (1 - floor) * (1 + math.cos(math.pi * max(0.0, done))) / 2
        return min(1.0, (step + 1) / warmup if warmup else 1.0) * cosine

    return factor


def change_length(schedule: CosineAnnealingLR, steps: int) -> None:
    """Give a resumed cosine another length: from its present step on, it is that of a training so long.

    Without this it would rise again after its first length. If the length is the same, nothing changes.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = CosineAnnealingLR(optimizer, T_max=2)
        >>> for _ in range(2):
        ...     optimizer.step()
        ...     schedule.step()
        >>> change_length(schedule, 4)
        >>> [round(rate, 3) for rate in schedule.get_last_lr()]
        [0.5]
    """
    if schedule.T_max == steps:
        return
    schedule.T_max = steps
    rates = schedule._get_closed_form_lr()
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates
