"""Common parts of the downstream experiments: reconstructions, resumable trainings, checked output folders."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.inferers import Inferer, SimpleInferer
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import RandomSampler
from tqdm import tqdm

from experiments.early_stopping import KeepBest, Validation
from monai_iste.bundle import resume_point
from monai_iste.errors import ConfigError, check_choice
from monai_iste.functional import upscale
from monai_iste.handlers import Checkpoints, StopOnNonFiniteLoss
from monai_iste.io.files import checksum, make_folder, open_output
from monai_iste.io.json_files import read_json, write_json
from monai_iste.metrics import get_protocol
from monai_iste.networks import load_weights
from monai_iste.networks.baselines import Bicubic
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.networks.presets import create_network, create_network_like, require_weights
from monai_iste.networks.runtime import known_device
from monai_iste.networks.weights import fill_network, read_weights

#: Protocol of the reductions, the paper's. See :mod:`monai_iste.metrics.protocols`.
PROTOCOL = "iste-rgb"

_STEPS_PER_EPOCH = 50  # steps between checkpoints


class Reconstructor:
    """Reduce an image by the protocol ``iste-rgb`` and upscale it by the same factor.

    Args:
        preset: name of a network (:func:`monai_iste.networks.presets.create_network`), such as ``bicubic``.
        weights: file of its weights; None for the released weights. Bicubic has none.
        scale: factor of the reduction and of the upscaling. Networks of one built-in scale are built for it.
        device: device of the network.
        bicubic_residual: whether the network was trained to add bicubic interpolation, which its weights do not
            record; None for the preset's setting.
    Raises:
        ConfigError: no such preset, no weights for it, or no such device.
        CheckpointError: the file does not fit the network.

    Example:
        >>> high, low, reconstructed = Reconstructor("bicubic", scale=4)(np.full((3, 23, 17), 200, np.uint8))
        >>> high.shape, low.shape, reconstructed.shape, int(reconstructed.min())
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
        changes: dict[str, Any] = {} if self.residual is None else {"bicubic_residual": self.residual}
        changes["scale"] = int(scale) if float(scale).is_integer() else scale
        self.weights: dict[str, str] | None = None
        if preset == "bicubic":
            self.network = create_network(preset, **changes)
        else:
            file = Path(weights) if weights is not None else require_weights(preset)
            state = read_weights(file)
            self.network = fill_network(create_network_like(preset, state, **changes), state, file)
            self.weights = {"file": file.name, "sha256": checksum(file)}
        self.network.to(known_device(device)).eval()
        self.device = device
        self._preprocessing = get_protocol(PROTOCOL).preprocessing()

    @property
    def identity(self) -> dict[str, Any]:
        """Everything the reconstructions depend on, for manifests and :attr:`name`."""
        residual = {} if self.residual is None else {"bicubic_residual": self.residual}
        return {"preset": self.preset, **residual, "weights": self.weights, "scale": self.scale, "protocol": PROTOCOL}

    @property
    def name(self) -> str:
        """Preset, scale and hash of the identity; unique, so that stored reconstructions are never confused."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return f"{self.preset}-x{self.scale:g}-{digest[:8]}"

    @torch.no_grad()
    def __call__(self, image: str | np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the original, its reduction and the reconstruction.

        The original is cropped at its lower right to a size that the scale divides.

        Shape:
            image: a path, or (3, H, W); returns (3, H', W'), (3, h, w), (3, H', W'), at most ``scale`` pixels smaller.
        Units: uint8, 0 to 255.
        """
        pair = self._preprocessing({"image": image, "scale": self.scale})
        low, size = pair["image"], tuple(pair["label"].shape[1:])
        if isinstance(self.network, (Bicubic, FixedScaleNetwork)):
            reconstructed = self.network(low.unsqueeze(0).to(self.device), scale=self.scale)[0].cpu()
        else:
            reconstructed = upscale(low, size=size, model=self.network)
        images = [
            np.asarray((tensor.clamp(0, 1) * 255).round().byte()) for tensor in (pair["label"], low, reconstructed)
        ]
        return images[0], images[1], images[2]


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
    precision: str = "fp32",
    validation: Validation | None = None,
) -> Path:
    """Train a network with MONAI's SupervisedTrainer and write ``weights.safetensors``; return at once if it exists.

    Not specified in the paper; our choice: Adam, with a learning rate that falls to 0 along half a cosine. A checkpoint
    is written after every epoch of 50 steps. An interrupted training resumes from the last one and gives the same
    result, because random draws of an epoch depend on the seed and the epoch only.

    With a validation, the training ends when its score stops rising, and the weights are those of the best score;
    ``validation.json`` has all scores.

    Args:
        network: network with random weights of that seed; the trained weights are loaded into it.
        make_dataset: creates the data set of items ``{"image": (C, H, W), "label": ...}`` with a random transform;
            items are drawn with replacement. Not called if the training is finished.
        loss: function of prediction and label.
        folder: folder for this training only.
        steps: optimizer steps, rounded up to whole epochs; with a validation the largest number.
        precision: ``"fp32"``, or ``"bf16"``: forward passes of the training run in bfloat16, where that is allowed.
            Weights, losses and validations stay float32.
        validation: score of the network on other images; None trains for all steps.
    Returns:
        path of the weights.
    Raises:
        ConfigError: the precision is unknown.
        TrainingError: the loss is not finite.
        CheckpointError: a checkpoint belongs to another network.
    """
    check_choice("a precision", precision, PRECISIONS)
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

    def finish() -> None:
        """Write the weights, before the checkpoint of that epoch: a training that is killed then ends the same."""
        if keeper is not None:
            network.load_state_dict(keeper.best)
            write_json(folder / "validation.json", keeper.history)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        with open_output(file, overwrite=True) as out:
            out.write(save(state))

    keeper = None if validation is None else KeepBest(network, validation, finish)
    keepers: dict[str, Any] = {} if keeper is None else {"validation": keeper}

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
        inferer=PRECISIONS[precision](),
        train_handlers=[
            Checkpoints(
                str(folder),
                {"network": network, "optimizer": optimizer, "lr_scheduler": schedule, **keepers},
                resume_point(str(folder), epochs + 1),
            ),
            StopOnNonFiniteLoss(),
            LrScheduleHandler(cast(Any, schedule), print_lr=False, epoch_level=False),
            *keepers.values(),
        ],
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, start_epoch)
    with tqdm(total=epochs * length, unit="step", desc=folder.name, mininterval=progress_interval()) as bar:
        trainer.add_event_handler(Events.ITERATION_COMPLETED, _advance, bar)
        trainer.run()
    if keeper is None or not file.is_file():  # killed between the last checkpoint and the weights, or no validation
        finish()
    for path in folder.glob("checkpoint_epoch=*.pt"):
        path.unlink()
    return file


class _BFloat16Inferer(Inferer):
    """Call a network under autocast to bfloat16 on the device of its input; the result is float32.

    MONAI's own mixed precision is for CUDA alone.
    """

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return network(inputs, *args, **kwargs).float()


#: Inferer of a training, by its precision.
PRECISIONS: Mapping[str, Callable[[], Inferer]] = {"fp32": SimpleInferer, "bf16": _BFloat16Inferer}

PrecisionOption = Annotated[
    str, typer.Option("--precision", help="Precision of the trainings: fp32, or bf16 on processors that have it.")
]


def describe_end(steps: int, patience: int) -> str:
    """Describe the end of a training: with patience it ends with its validation, without it after all steps.

    Example:
        >>> describe_end(6000, 8), describe_end(1000, 0)
        ('until its validation stops rising, at most 6,000 steps', 'for 1,000 steps')
    """
    return f"until its validation stops rising, at most {steps:,} steps" if patience else f"for {steps:,} steps"


def progress_interval() -> float:
    """Seconds between updates of a progress bar: few in a log file, which keeps all of them."""
    return 1.0 if sys.stderr.isatty() else 30.0


def _advance(engine: Engine, bar: tqdm[Any]) -> None:
    output: Any = engine.state.output
    bar.set_postfix(loss=f"{float(output[0]['loss']):.4f}", refresh=False)
    bar.update(engine.state.iteration - bar.n)  # more than one step right after resuming


# --- results ----------------------------------------------------------------------------------------------------------


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Create the folder of an experiment, or check that it holds one with the same settings.

    Args:
        folder: output folder.
        settings: values that must be the same when the experiment is resumed.
    Raises:
        ConfigError: the folder holds an experiment with other settings; the first difference is named.
        DataError: ``settings.json`` is damaged.
        OutputError: the folder cannot be created.
    """
    make_folder(folder)
    wanted = json.loads(json.dumps(settings))
    remedy = "Restore it, or choose another --output-dir: without it nobody knows what the folder holds."
    before = read_json(folder / "settings.json", {str: object}, remedy)
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
