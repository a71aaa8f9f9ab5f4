"""Training on the studies: runs the bundle's training as a subprocess, which resumes after an interruption."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_iste.bundle import bundle_command
from monai_iste.data.datasets import training_datalists
from monai_iste.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, ConfigError, DataError, ISTEError, TrainingError
from monai_iste.io.files import make_folder, report_write_errors
from monai_iste.io.image_reader import image_size, read_rgb
from monai_iste.io.json_files import read_json
from monai_iste.networks.presets import DEFAULT_PRESET, require_weights

#: Settings that a request may change. The learning rate is a tenth of the bundle's, because training continues from
#: released weights.
DEFAULTS: dict[str, Any] = {
    "max_epochs": 10,
    "steps_per_epoch": 50,
    "batch_size": 16,
    "learning_rate": 1e-4,
    "pretrained": True,
    "resume": True,
}

_MIN_SIDE = 128  # pixels: 32 x 32 at the largest training scale, 4
_MAX_PIXELS = 64_000_000  # of one image; training holds all images in memory


def training_options(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training settings of a request as overrides of the bundle; other keys are ignored.

    Raises:
        ConfigError: a value is invalid.

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
    """Training of one app.

    Args:
        folder: output folder for checkpoints, ``model.pt``, ``metrics.json`` and ``comparison.png``.
        log: receives the output of the training, line by line.
    """

    def __init__(self, folder: Path, log: Callable[[str], None] = print) -> None:
        self.folder, self.log = folder, log

    @property
    def images(self) -> Path:
        """Folder with links to the training images; results of batch inference are never in it."""
        return self.folder.with_name(f"{self.folder.name}-images")

    def run(self, studies: Iterable[Path], request: Mapping[str, Any]) -> None:
        """Train and wait for the end.

        Raises:
            ConfigError, DataError: the request or the images are unusable; nothing was started.
            TrainingError: the training failed.
        """
        options = training_options(request)
        self.link_images(studies)
        training_datalists(self.images, _MIN_SIDE)
        make_folder(self.folder)
        command = bundle_command(
            "training", ["train"], {"dataset_dir": self.images, "output_dir": self.folder, **options}
        )
        last = "no output"
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    last = line.strip()
                    self.log(last)
        if process.returncode:
            raise TrainingError("the training to end well", f'"{last}"', _remedy(process.returncode))

    def link_images(self, studies: Iterable[Path]) -> None:
        """Recreate :attr:`images`, and log which studies are left out and why.

        Raises:
            DataError: fewer than two can be used; the message says why of the first that are left out.
        """
        if self.images.exists():
            shutil.rmtree(self.images)
        make_folder(self.images)
        left_out, count = [], 0
        with report_write_errors(self.images):
            for study in studies:
                reason = _rejection_reason(study)
                if reason is None:
                    _link(self.images / study.name, study.resolve())
                    count += 1
                else:
                    left_out.append(f"{study.name} ({reason.rstrip('.')})")
                    self.log(f"skipped: {left_out[-1]}")
        if count < 2:
            raise DataError(
                "at least two images to train on",
                "; left out: ".join([str(count), *([", ".join(left_out[:3])] if left_out else [])]),
                f"Add images of {_MIN_SIDE} pixels or more a side, such as tiles of slides.",
            )

    def scores(self) -> dict[str, Any]:
        """Return the scores of the last finished training from its ``metrics.json``; empty if there is none.

        A damaged file has none; it is logged.
        """
        try:
            metrics = read_json(self.folder / "metrics.json", {"protocol": str, "rows": list}, "Train again.")
        except DataError as error:
            self.log(f"note: {error}")
            return {}
        return {} if metrics is None else {"protocol": metrics["protocol"], "rows": metrics["rows"]}


def _link(path: Path, image: Path) -> None:
    """Make a link to an image, or a copy where the system grants no links, as Windows does by default."""
    try:
        path.symlink_to(image)
    except OSError:
        shutil.copyfile(image, path)


def _rejection_reason(study: Path) -> str | None:
    """Return why an image cannot be used for training, or None if it can."""
    try:
        height, width = image_size(study)
    except (ISTEError, OSError) as error:
        return str(error).replace(str(study), study.name)
    if height * width > _MAX_PIXELS:
        return f"{width} x {height} pixels are more than {_MAX_PIXELS:,}; cut tiles from it"
    if min(height, width) < _MIN_SIDE:
        return f"{width} x {height} pixels, less than {_MIN_SIDE} along a side"
    try:
        read_rgb(study)  # a header may be readable where pixels are not, such as those of a codec that is missing
    except (ISTEError, OSError) as error:
        return str(error).replace(str(study), study.name)
    return None


def _remedy(exit_code: int) -> str:
    """Return the advice for a training that ended with an exit code; those below 0 are signals."""
    interrupted = exit_code < 0 or exit_code in (EXIT_INTERRUPTED, EXIT_TERMINATED)
    return "Send the same request again to resume." if interrupted else "Change that first; the work so far is kept."
