"""The command ``python -m monai_iste.release``: a training's checkpoint becomes released weights.

It belongs to a clone of the repository, where the bundle lies beside the package. The model card and the tables of
results are not its business: they follow from an evaluation of the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
import typer

import monai_iste
from monai_iste.errors import OutputError, show_errors_as_sentences
from monai_iste.images import open_output
from monai_iste.manifest import checksum
from monai_iste.networks import PRESETS, create_iste, load_weights
from monai_iste.networks.presets import DEFAULT_PRESET

__all__ = ["release"]

_PACKAGE = Path(monai_iste.__file__).parent


def release(checkpoint: Path, preset: str = DEFAULT_PRESET, repository: Path = _PACKAGE.parent) -> list[Path]:
    """Write the weights of a preset to where bundle and package look for them; returns the files.

    ``bundles/iste/models/<preset>.safetensors``; ``monai_iste/weights/<preset>.safetensors``, a link to it; and for the
    default preset ``bundles/iste/models/model.pt``, the name under which ``monai.bundle.load`` wants a state
    dictionary. The same tensors give the same bytes. The terms of the preset travel inside the safetensors.

    Args:
        checkpoint: ``model.pt``, ``model_best.pt`` or ``checkpoint_epoch=N.pt`` of a training, or ``.safetensors``.
        preset: whose weights they are.
        repository: the clone that holds ``bundles/iste`` and ``monai_iste``.
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another preset. ConfigError: no such preset.
        OutputError: this is not a clone of the repository, or a file cannot be written.
    """
    models, weights = repository / "bundles" / "iste" / "models", repository / "monai_iste" / "weights"
    for folder in (models, weights):
        if not folder.is_dir():
            raise OutputError("a clone of the repository", f"no folder {folder}", "Install it with pip install -e .")
    state = load_weights(create_iste(preset), checkpoint).state_dict()
    # One entry: safetensors writes several in random order.
    about = {"about": f"{preset} of monai_iste {monai_iste.__version__}; {PRESETS[preset].terms}"}
    files = [models / f"{preset}.safetensors"]
    with open_output(files[0], overwrite=True) as file:
        file.write(safetensors.torch.save(state, about))
    link = weights / files[0].name
    if not link.is_symlink():
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "..", *files[0].relative_to(repository).parts))
    files.append(link)
    if preset == DEFAULT_PRESET:
        files.append(models / "model.pt")
        with open_output(files[-1], overwrite=True) as file:
            torch.save(state, file)
    return files


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Weights of a training, .pt or .safetensors.")],
    preset: Annotated[str, typer.Argument(help="The preset that was trained.")] = DEFAULT_PRESET,
) -> None:
    """Release the weights in CHECKPOINT as those of PRESET, and print the SHA-256 of each file."""
    show_errors_as_sentences()
    for path in release(checkpoint, preset):
        typer.echo(f"{checksum(path)}  {path.relative_to(_PACKAGE.parent)}")


if __name__ == "__main__":
    typer.run(main)
