"""Report of a list of trainings: what is finished, what remains, and about how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

_NO_TIME_YET = "their time is known after the first"


class Training(NamedTuple):
    """Training of a list: its method and scale, its steps, and the seconds that it took; None if unfinished."""

    kind: str
    steps: int
    seconds: float | None


def describe_progress(trainings: Sequence[Training]) -> str:
    """Describe in one line how many trainings are finished, and estimate the time of the others.

    A training is expected to take as long per step as those of its kind did, or as all did on average if none of its
    kind is finished.

    Example:
        >>> describe_progress([Training("liif", 100, 60.0), Training("liif", 400, None), Training("lte", 100, None)])
        '1 of 3 trainings finished, 2 remain, about 5 min'
        >>> describe_progress([Training("liif", 100, 60.0)])
        '1 of 1 trainings finished'
    """
    finished: dict[str, list[float]] = {}
    for training in trainings:
        if training.seconds is not None:
            finished.setdefault(training.kind, []).append(training.seconds / training.steps)
    open_ones = [training for training in trainings if training.seconds is None]
    done = f"{len(trainings) - len(open_ones)} of {len(trainings)} trainings finished"
    if not open_ones:
        return done
    if not finished:
        return f"{done}, {len(open_ones)} remain; {_NO_TIME_YET}"
    per_step = {kind: fmean(values) for kind, values in finished.items()}
    other = fmean(per_step.values())
    seconds = sum(per_step.get(training.kind, other) * training.steps for training in open_ones)
    return f"{done}, {len(open_ones)} remain, about {_duration(seconds)}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
