"""The command ``python -m scripts.release``: a training's checkpoint becomes released weights.

It belongs to a clone of the repository, where the bundle lies beside the package. The model card and the tables of
results are not its business: they follow from an evaluation of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
import typer
from torch import Tensor

import monai_iste
from monai_iste.errors import OutputError, show_errors_as_sentences
from monai_iste.io.files import CHECKSUMS, checksum, checksums, open_output, write_json
from monai_iste.networks import PRESETS, create_iste, load_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.weights import INDEX

__all__ = ["SHARD_BYTES", "release"]

#: No file of a release is larger: many hosts and mirrors of repositories refuse large files.
SHARD_BYTES = 15 * 2**20

_PACKAGE = Path(monai_iste.__file__).parent


def release(
    checkpoint: Path,
    preset: str = DEFAULT_PRESET,
    repository: Path = _PACKAGE.parent,
    mean_with: Sequence[Path] = (),
) -> list[Path]:
    """Write the weights of a preset to where bundle and package look for them; returns the files.

    ``bundles/iste/models/<preset>.safetensors``, or where that would be larger than 15 MiB, its tensors in half
    precision in as many shards as it takes, with an index; ``SHA256SUMS`` there, which names every released file; links
    to all of them in ``monai_iste/weights``; for the default preset ``bundles/iste/models/model.pt``, the name under
    which ``monai.bundle.load`` wants a state dictionary. The same tensors give the same bytes. The terms of the preset
    travel inside the safetensors.

    Args:
        checkpoint: ``model.pt``, ``model_best.pt`` or ``checkpoint_epoch=N.pt`` of a training, or ``.safetensors``.
        preset: whose weights they are.
        repository: the clone that holds ``bundles/iste`` and ``monai_iste``.
        mean_with: more checkpoints; the mean of all is released. Trainings that went on from the same weights lie close
            enough together for that, and their mean is better than each (Wortsman et al., arXiv:2203.05482).
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another preset. ConfigError: no such preset.
        OutputError: this is not a clone of the repository, or a file cannot be written.
    """
    models, weights = repository / "bundles" / "iste" / "models", repository / "monai_iste" / "weights"
    for folder in (models, weights):
        if not folder.is_dir():
            raise OutputError("a clone of the repository", f"no folder {folder}", "Install it with pip install -e .")
    state = _mean([load_weights(create_iste(preset), path).state_dict() for path in (checkpoint, *mean_with)])
    files = _write(state, preset, models)
    _list(files, preset, models, weights)
    files += [_link(weights, path, repository) for path in (*files, models / CHECKSUMS)]
    if preset == DEFAULT_PRESET:
        files.append(models / "model.pt")
        with open_output(files[-1], overwrite=True) as file:
            torch.save(state, file)
    return files


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(states) == 1:
        return states[0]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def _write(state: dict[str, Tensor], preset: str, folder: Path) -> list[Path]:
    """The safetensors of a preset, and the index of its shards if it has several."""
    shards = _shards(state)
    if len(shards) > 1:
        shards = _shards({name: tensor.half() for name, tensor in state.items()})
    # One entry: safetensors writes several in random order.
    about = {"about": f"{preset} of monai_iste {monai_iste.__version__}; {PRESETS[preset].terms}"}
    several = [f"{preset}-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    names = several if len(shards) > 1 else [f"{preset}.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        with open_output(folder / name, overwrite=True) as file:
            file.write(safetensors.torch.save(shard, about))
    if len(shards) > 1:
        where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        names.append(f"{preset}{INDEX}")
        total = sum(map(_size, shards))
        write_json(folder / names[-1], {"metadata": {"total_size": total}, "weight_map": where})
    return [folder / name for name in names]


def _shards(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors in their order, in parts of at most SHARD_BYTES."""
    parts: list[dict[str, Tensor]] = [{}]
    for name, tensor in state.items():
        if parts[-1] and _size({**parts[-1], name: tensor}) > SHARD_BYTES:
            parts.append({})
        parts[-1][name] = tensor
    return parts


def _size(state: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in state.values())


def _list(files: list[Path], preset: str, folder: Path, links: Path) -> None:
    """Enter a preset's files into the list of checksums; those of its earlier release that are not among them go."""
    entries, new = checksums(folder), {path.name: checksum(path) for path in files}
    for name in list(entries):
        if name.startswith((f"{preset}.", f"{preset}-")) and name not in new:
            del entries[name]
            (links / name).unlink(missing_ok=True)
            (folder / name).unlink(missing_ok=True)
    entries.update(new)
    with open_output(folder / CHECKSUMS, overwrite=True) as file:
        file.write("".join(f"{digest}  {name}\n" for name, digest in sorted(entries.items())).encode())


def _link(folder: Path, path: Path, repository: Path) -> Path:
    link = folder / path.name
    if not link.is_symlink():
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "..", *path.relative_to(repository).parts))
    return link


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Weights of a training, .pt or .safetensors.")],
    preset: Annotated[str, typer.Argument(help="The preset that was trained.")] = DEFAULT_PRESET,
    mean_with: Annotated[
        list[Path] | None, typer.Option("--mean-with", help="Another training's weights; the mean of all is released.")
    ] = None,
) -> None:
    """Release the weights in CHECKPOINT as those of PRESET, and print the SHA-256 of each file."""
    show_errors_as_sentences()
    for path in release(checkpoint, preset, mean_with=mean_with or ()):
        typer.echo(f"{checksum(path)}  {path.relative_to(_PACKAGE.parent)}")


if __name__ == "__main__":
    typer.run(main)
