"""The handler that tells a curriculum how far the training is."""

from __future__ import annotations

from ignite.engine import Engine, Events

from monai_iste.transforms.curriculum import Curriculum

__all__ = ["AdvanceCurriculum"]


class AdvanceCurriculum:
    """Keep a curriculum's progress at the trainer's: steps done / steps in all.

    It is computed from the trainer's own count, which every checkpoint holds: a resumed training goes on where it was.

    Data-loading processes prepare some batches ahead. Within an epoch it therefore depends on their speed which step's
    factor a batch gets; the steps of a whole epoch share one, and the same seed gives the same training, with
    ``epoch_level``.

    Args:
        curriculum: whose progress is set.
        epoch_level: set it before every epoch, as the authors' code does; otherwise also after every step.
    """

    def __init__(self, curriculum: Curriculum, epoch_level: bool = False) -> None:
        self.curriculum, self.epoch_level = curriculum, epoch_level

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._set)  # before the first batch of the epoch is asked for
        if not self.epoch_level:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._set)

    def _set(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        self.curriculum.progress = min(1.0, engine.state.iteration / max(1, total))
