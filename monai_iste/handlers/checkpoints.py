"""Checkpoints of a training, and the seeds with which a resumed training equals an uninterrupted one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from monai_iste.bundle.output_folder import checkpoints, epoch_of
from monai_iste.data.seeded import seed_generators
from monai_iste.errors import CheckpointError, ISTEError, OutputError, TrainingError
from monai_iste.handlers.schedules import change_length
from monai_iste.io.files import make_folder
from monai_iste.networks.weights import save_state

_KEPT = 2  # files: the one before the last serves if the last is damaged


class SeedEpochs:
    """Seed the global generators of Python, NumPy and PyTorch at the start of every epoch.

    The seed depends on ``seed``, the epoch and the rank of the process. Together with
    :class:`~monai_iste.data.seeded.SeededSampler` and :class:`~monai_iste.data.seeded.SeededDataset` a training that
    resumes after an epoch draws what an uninterrupted one draws.

    Args:
        seed: seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        seed_generators(self.seed, engine.state.epoch, idist.get_rank())


class Checkpoints:
    """Save the whole state of a training after every epoch, keep the last two files, and resume from one of them.

    A file is written after all other handlers of the end of an epoch, validation too, and appears only when complete.
    It holds checksums; see :func:`monai_iste.bundle.resume.find_damage`.

    Args:
        save_dir: folder of the files ``checkpoint_epoch=N.pt``.
        state: objects with ``state_dict`` and ``load_state_dict`` that are saved together with the trainer.
        resume_from: checkpoint to resume from, or None; see :func:`monai_iste.bundle.resume_point`.
    Raises:
        CheckpointError: the file is damaged, belongs to another network, or contains values that are not finite.
        OutputError: a checkpoint cannot be written.
        TrainingError: the state after an epoch contains values that are not finite; no file is written.
    """

    def __init__(self, save_dir: str, state: dict[str, Any], resume_from: str | None = None) -> None:
        self.save_dir, self.state, self.resume_from = save_dir, state, resume_from

    def attach(self, engine: Engine) -> None:
        if self.resume_from is not None:
            engine.add_event_handler(Events.STARTED, self._resume, Path(self.resume_from))
        engine.add_event_handler(Events.STARTED, self._save_last)

    def _save_last(self, engine: Engine) -> None:
        """Attach the saving when the run begins, after every handler that changes the state at the end of an epoch."""
        if not engine.has_event_handler(self._save, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _objects(self, engine: Engine) -> dict[str, Any]:
        return {**self.state, "trainer": engine}

    def _save(self, engine: Engine) -> None:
        content = {
            name: (thing.module if isinstance(thing, nn.parallel.DistributedDataParallel) else thing).state_dict()
            for name, thing in self._objects(engine).items()
        }
        bad = _not_finite(content)
        if bad is not None:
            raise TrainingError(
                f"finite values after epoch {engine.state.epoch}",
                f"NaN or infinity in {bad}",
                "The last good checkpoint is kept: lower --learning_rate and add --resume False to start again.",
            )
        if idist.get_rank() > 0:
            return
        folder = Path(self.save_dir)
        try:
            make_folder(folder)
            save_state(folder / f"checkpoint_epoch={engine.state.epoch}.pt", content)
            for path in [path for path in checkpoints(folder) if epoch_of(path) <= engine.state.epoch][_KEPT:]:
                path.unlink()
        except OSError as error:
            raise OutputError(
                f"to be able to write a checkpoint to {os.path.relpath(self.save_dir)}",
                f"an error ({getattr(error.__cause__, 'strerror', None) or error})",
                "Free disk space and run the command again: it resumes from the last complete checkpoint.",
            ) from error

    def _resume(self, engine: Engine, path: Path) -> None:
        epochs = engine.state.max_epochs
        try:
            device = engine.state.device  # type: ignore[attr-defined]
            content = torch.load(path, map_location=device, weights_only=True)
            bad = _not_finite(content)
            if bad is not None:
                raise ValueError(f"NaN or infinity in {bad}")
            cosines = [thing for thing in self.state.values() if isinstance(thing, CosineAnnealingLR)]
            lengths = [cosine.T_max for cosine in cosines]  # a checkpoint holds those of the earlier max_epochs
            Checkpoint.load_objects(to_load=self._objects(engine), checkpoint=content)
            for cosine, length in zip(cosines, lengths, strict=True):
                change_length(cosine, length)
        except ISTEError:
            raise
        except Exception as error:
            raise CheckpointError(
                "a checkpoint of the network that is being trained",
                f"{os.path.relpath(path)} ({str(error).strip().splitlines()[0]})",
                "Add --resume False to start again, or choose another --output_dir.",
            ) from error
        engine.state.max_epochs = epochs
        tqdm.write(f"Resumed {os.path.relpath(path)} after step {engine.state.iteration}.")


def _not_finite(content: Any) -> str | None:
    """Name the first tensor with a NaN or infinite value in nested dictionaries and lists."""
    for name, tensor in _tensors(content, ""):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None


def _tensors(content: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
        for index, value in enumerate(content):
            yield from _tensors(value, f"{name}.{index}")
