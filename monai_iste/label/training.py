"""Trains on the studies: the bundle's own training, as a command of its own that goes on after an interruption."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_iste.bundle import bundle_command
from monai_iste.data.datasets import training_datalists
from monai_iste.errors import ConfigError, DataError, TrainingError
from monai_iste.io.files import make_folder, read_json, writing
from monai_iste.io.image_reader import image_size
from monai_iste.networks.presets import DEFAULT_PRESET, require_weights

#: Settings that a request may change. The learning rate is a tenth of what the bundle begins with, because the weights
#: that are gone on from are good already.
DEFAULTS: dict[str, Any] = {
    "max_epochs": 10,
    "steps_per_epoch": 50,
    "batch_size": 16,
    "learning_rate": 1e-4,
    "pretrained": True,
    "resume": True,
}

_SMALLEST = 128  # pixels: 32 x 32 at the largest scale, 4


_LARGEST = 64_000_000  # pixels of one image: a training holds all of them in memory


def training_options(request: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a request, in the bundle's terms; whatever else MONAI Label puts beside them is left alone.

    Raises:
        ConfigError: a value that is none.

    Example:
        >>> training_options({"model": "iste", "max_epochs": 2, "pretrained": False})["max_epochs"]
        2
    """
    options = {key: request.get(key, value) for key, value in DEFAULTS.items()}
    for key in ("max_epochs", "steps_per_epoch", "batch_size"):
        if type(options[key]) is not int or options[key] < 1:
            raise ConfigError(f"a whole number above 0 for {key}", repr(options[key]), f"Such as {DEFAULTS[key]}.")
    rate = options["learning_rate"]
    if type(rate) not in (int, float) or not 0 < rate < math.inf:
        raise ConfigError("a number above 0 for learning_rate", repr(rate), "Such as 1e-4.")
    for key in ("pretrained", "resume"):
        if type(options[key]) is not bool:
            raise ConfigError(f"true or false for {key}", repr(options[key]), "Give one of these.")
    if options.pop("pretrained"):
        options["pretrained"] = require_weights(DEFAULT_PRESET)
    if request.get("device"):
        options["device"] = f"$torch.device({request['device']!r})"
    return options


class Training:
    """The training of one app.

    Args:
        folder: where it leaves checkpoints, ``model.pt``, ``metrics.json`` and ``comparison.png``.
        tell: receives what the training prints, line by line.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = print) -> None:
        self.folder, self.tell = folder, tell

    @property
    def images(self) -> Path:
        """The folder in which the images are linked that are trained on: what batch inference writes is not."""
        return self.folder.with_name(f"{self.folder.name}-images")

    def run(self, studies: Iterable[Path], request: Mapping[str, Any]) -> None:
        """Train, and return when it is done.

        Raises:
            ConfigError, DataError: nothing has been trained. TrainingError: the training ended with an error.
        """
        options = training_options(request)
        self.link(studies)
        training_datalists(self.images, _SMALLEST)  # whether there are two
        make_folder(self.folder)
        command = bundle_command(
            "training", ["train"], {"dataset_dir": self.images, "output_dir": self.folder, **options}
        )
        last = "no word"
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    last = line.strip()
                    self.tell(last)
        if process.returncode:
            raise TrainingError("the training to end well", f'"{last}"', "Type the same again to go on.")

    def link(self, studies: Iterable[Path]) -> None:
        """Make :attr:`images` anew, and say which studies are left out and why."""
        if self.images.exists():
            shutil.rmtree(self.images)
        make_folder(self.images)
        with writing(self.images):
            for study in studies:
                reason = _unfit(study)
                if reason is None:
                    _link(self.images / study.name, study.resolve())
                else:
                    self.tell(f"left out: {study.name} ({reason})")

    def scores(self) -> dict[str, Any]:
        """What the last finished training scored, as its ``metrics.json`` says; empty before."""
        found = read_json(self.folder / "metrics.json")
        return {} if found is None else {"protocol": found["protocol"], "rows": found["rows"]}


def _link(path: Path, image: Path) -> None:
    """Make a link to an image, or a copy where the system grants no links, as Windows does by default."""
    try:
        path.symlink_to(image)
    except OSError:
        shutil.copyfile(image, path)


def _unfit(study: Path) -> str | None:
    """Why an image cannot be trained on; None if it can."""
    try:
        height, width = image_size(study)
    except DataError as error:
        return str(error).replace(str(study), study.name)
    if height * width > _LARGEST:
        return f"{width} x {height} pixels are more than {_LARGEST:,}; cut tiles from it"
    if min(height, width) < _SMALLEST:
        return f"{width} x {height} pixels, less than {_SMALLEST} along a side"
    return None
