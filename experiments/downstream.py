"""What Tables III and IV share: reconstructions of a data set, trainings that resume, results with their manifest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import RandomSampler
from tqdm import tqdm

from monai_iste.bundle import resume_point
from monai_iste.errors import ConfigError
from monai_iste.functional import upscale
from monai_iste.handlers import Checkpoints, StopOnNonFiniteLoss
from monai_iste.io.files import checksum, make_folder, open_output, read_json, write_json
from monai_iste.metrics import get_protocol
from monai_iste.networks import load_weights
from monai_iste.networks.baselines import Bicubic
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.networks.presets import create_network, require_weights

#: How images are reduced; the paper's. See :mod:`monai_iste.metrics.protocols`.
PROTOCOL = "iste-rgb"

_STEPS_PER_EPOCH = 50  # a checkpoint after so many


class Reconstructor:
    """Reduce an image by the protocol ``iste-rgb`` and magnify it again by the same scale.

    Args:
        preset: a network's name (:func:`monai_iste.networks.presets.create_network`), such as ``bicubic``.
        weights: its file; None for the released weights. Bicubic has none.
        scale: of both. Networks with a built-in magnification are built for it.
        device: where the network runs.
        bicubic_residual: whether the network was trained to learn the difference to bicubic, which its weights do not
            tell; None for what the preset says.
    Raises:
        ConfigError: no such preset, or no weights for it. CheckpointError: the file does not fit the network.

    Example:
        >>> high, low, again = Reconstructor("bicubic", scale=4)(np.full((3, 23, 17), 200, np.uint8))
        >>> high.shape, low.shape, again.shape, int(again.min())
        ((3, 20, 16), (3, 5, 4), (3, 20, 16), 200)
    """

    def __init__(
        self,
        preset: str,
        weights: str | os.PathLike[str] | None = None,
        scale: float = 4.0,
        device: str = "cpu",
        bicubic_residual: bool | None = None,
    ) -> None:
        self.preset, self.scale = preset, float(scale)
        self.residual = None if preset == "bicubic" else bicubic_residual
        changes = {} if self.residual is None else {"bicubic_residual": self.residual}
        self.network = create_network(preset, scale=int(scale) if float(scale).is_integer() else scale, **changes)
        self.weights: dict[str, str] | None = None
        if not isinstance(self.network, Bicubic):
            file = Path(weights) if weights is not None else require_weights(preset)
            load_weights(self.network, file)
            self.weights = {"file": file.name, "sha256": checksum(file)}
        self.network.to(device).eval()
        self.device = device
        self._preprocessing = get_protocol(PROTOCOL).preprocessing()

    @property
    def identity(self) -> dict[str, Any]:
        """What the reconstructions depend on, for manifests and for the name of their folder."""
        residual = {} if self.residual is None else {"bicubic_residual": self.residual}
        return {"preset": self.preset, **residual, "weights": self.weights, "scale": self.scale, "protocol": PROTOCOL}

    @property
    def name(self) -> str:
        """The preset with the first digits of the identity's hash: what is kept under it is never another's."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return f"{self.preset}-x{self.scale:g}-{digest[:8]}"

    @torch.no_grad()
    def __call__(self, image: str | np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The original, cropped at its lower right to the size that the scale needs; its reduction; the reconstruction.

        Shape:
            image: a path, or (3, H, W); returns (3, H', W'), (3, h, w), (3, H', W'), at most ``scale`` pixels smaller.
        Units: uint8, 0 to 255.
        """
        pair = self._preprocessing({"image": image, "scale": self.scale})
        low, size = pair["image"], tuple(pair["label"].shape[1:])
        if isinstance(self.network, (Bicubic, FixedScaleNetwork)):
            again = self.network(low.unsqueeze(0).to(self.device), scale=self.scale)[0].cpu()
        else:
            again = upscale(low, size=size, model=self.network)
        high, low, again = (
            np.asarray((tensor.clamp(0, 1) * 255).round().byte()) for tensor in (pair["label"], low, again)
        )
        return high, low, again


# --- trainings --------------------------------------------------------------------------------------------------------


def train(
    network: nn.Module,
    make_dataset: Callable[[], Dataset],
    loss: nn.Module,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str = "cpu",
    num_workers: int = 0,
) -> Path:
    """Train a network with MONAI's SupervisedTrainer and write ``weights.safetensors``; at once done if that is there.

    Adam, with a learning rate that falls to 0 along half a cosine ("paper silent"). A checkpoint is written after every
    epoch of 50 steps, and an interrupted training goes on from the last one to the same result: what is drawn at random
    in an epoch depends on the seed and on the epoch alone.

    Args:
        network: with random weights of that seed; the result's are loaded into it.
        make_dataset: gives items ``{"image": (C, H, W), "label": ...}`` with a random transform; they are drawn with
            replacement. Not called if the training is done.
        folder: of this training alone.
        steps: of the optimizer, rounded up to whole epochs.
    Returns:
        the file of the weights.
    Raises:
        TrainingError: the loss is no longer finite. CheckpointError: a checkpoint belongs to another network.
    """
    file = folder / "weights.safetensors"
    if file.is_file():
        load_weights(network.to(device), file)
        return file
    make_folder(folder)
    dataset = make_dataset()
    length = min(steps, _STEPS_PER_EPOCH)
    epochs = math.ceil(steps / length)
    generator = torch.Generator()
    sampler = RandomSampler(dataset, replacement=True, num_samples=length * batch_size, generator=generator)
    loader = DataLoader(
        dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers, generator=generator, drop_last=True
    )
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs * length)

    def start_epoch(engine: Engine) -> None:
        number = (seed << 20) + engine.state.epoch
        generator.manual_seed(number)
        torch.manual_seed(number)
        transform = dataset.transform
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(number % 2**32)

    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        train_handlers=[
            Checkpoints(
                str(folder),
                {"network": network, "optimizer": optimizer, "lr_scheduler": schedule},
                resume_point(str(folder), epochs + 1),
            ),
            StopOnNonFiniteLoss(),
            LrScheduleHandler(cast(Any, schedule), print_lr=False, epoch_level=False),
        ],
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, start_epoch)
    with tqdm(total=epochs * length, unit="step", desc=folder.name, mininterval=progress_interval()) as bar:
        trainer.add_event_handler(Events.ITERATION_COMPLETED, _advance, bar)
        trainer.run()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with open_output(file, overwrite=True) as out:
        out.write(save(state))
    for path in folder.glob("checkpoint_epoch=*.pt"):
        path.unlink()
    return file


def progress_interval() -> float:
    """Seconds between two states of a bar: a log file keeps every one of them."""
    return 1.0 if sys.stderr.isatty() else 30.0


def _advance(engine: Engine, bar: tqdm[Any]) -> None:
    output: Any = engine.state.output
    bar.set_postfix(loss=f"{float(output[0]['loss']):.4f}", refresh=False)
    bar.update(engine.state.iteration - bar.n)  # more than one step at first in a training that goes on


# --- results ----------------------------------------------------------------------------------------------------------


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder that of one experiment: on the way back into it, the settings have to be the same.

    Raises:
        ConfigError: it holds an experiment with others; the first difference is named. OutputError: it cannot be made.
    """
    make_folder(folder)
    wanted = json.loads(json.dumps(settings))
    before = read_json(folder / "settings.json")
    if before is None:
        write_json(folder / "settings.json", wanted)
        return
    for key in (*before, *wanted):
        if before.get(key) != wanted.get(key):
            raise ConfigError(
                f"the settings of the experiment in {folder}",
                f"{key} {wanted.get(key)}, which is {before.get(key)} there",
                "Choose another --output-dir, or remove that one.",
            )
