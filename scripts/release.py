"""Command ``python -m scripts.release``: turn a checkpoint of a training into released weights.

It runs in a clone of the repository. Model card and result tables are not written: they follow from an evaluation of
the weights. With ``--bioimageio`` it packages weights that are released already (:mod:`scripts.model_zoo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import monai_iste
from monai_iste.errors import ConfigError, OutputError, show_errors_as_sentences
from monai_iste.io.files import CHECKSUMS, checksum, open_output, read_checksums
from monai_iste.io.json_files import write_json
from monai_iste.networks import PRESETS, create_iste, load_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.weights import INDEX, safetensors_bytes, save_state

__all__ = ["SHARD_BYTES", "release"]

#: Largest file of a release; many hosts and mirrors of repositories refuse large files.
SHARD_BYTES = 15 * 2**20

_PACKAGE = Path(monai_iste.__file__).parent


def release(
    checkpoint: Path,
    preset: str = DEFAULT_PRESET,
    repository: Path = _PACKAGE.parent,
    mean_with: Sequence[Path] = (),
) -> list[Path]:
    """Write the weights of a preset to the bundle and, unless they are for research only, to the package.

    Files in ``bundles/iste/models``:

    * ``<preset>.safetensors``; if it would be larger than 15 MiB, half-precision shards with an index;
    * ``SHA256SUMS``, which lists every released file;
    * for the default preset ``model.pt``, the state dictionary that ``monai.bundle.load`` expects.

    ``monai_iste/weights`` gets links to all but ``model.pt``, if the preset's weights belong to the package
    (:attr:`~monai_iste.networks.presets.Preset.is_packaged`). The same tensors give the same bytes. The terms of the
    preset and the options of its network are stored in the safetensors files; the options in ``model.pt`` too.

    Args:
        checkpoint: ``model.pt``, ``model_best.pt`` or ``checkpoint_epoch=N.pt`` of a training, or ``.safetensors``.
        preset: preset of the weights.
        repository: clone with ``bundles/iste`` and ``monai_iste``.
        mean_with: further checkpoints; the mean of all is released. It is meaningful for trainings that started from
            the same weights (Wortsman et al., arXiv:2203.05482).
    Returns:
        the paths of the files.
    Raises:
        CheckpointError: a file is missing, damaged, or belongs to another preset or to a network with other options.
        ConfigError: there is no such preset.
        OutputError: this is not a clone of the repository, or a file cannot be written.
    """
    models, weights = repository / "bundles" / "iste" / "models", repository / "monai_iste" / "weights"
    for folder in (models, weights):
        if not folder.is_dir():
            raise OutputError("a clone of the repository", f"no folder {folder}", "Install it with pip install -e .")
    network = create_iste(preset)
    network.load_state_dict(
        _mean([load_weights(create_iste(preset), path).state_dict() for path in (checkpoint, *mean_with)])
    )
    state = network.state_dict()
    files = _write(state, preset, models, network.options())
    _update_checksums(files, preset, models, weights)
    linked = (*files, models / CHECKSUMS) if PRESETS[preset].is_packaged else (models / CHECKSUMS,)
    files += [_link(weights, path, repository) for path in linked]
    if preset == DEFAULT_PRESET:
        files.append(models / "model.pt")
        save_state(files[-1], state)
    return files


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(states) == 1:
        return states[0]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def _write(state: dict[str, Tensor], preset: str, folder: Path, options: dict[str, Any]) -> list[Path]:
    """Write the safetensors of a preset, and the index of its shards if there are several."""
    shards = _shards(state)
    if len(shards) > 1:
        shards = _shards({name: tensor.half() for name, tensor in state.items()})
    about = {"preset": preset, "version": monai_iste.__version__, "terms": PRESETS[preset].terms}
    several = [f"{preset}-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    names = several if len(shards) > 1 else [f"{preset}.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        with open_output(folder / name, overwrite=True) as file:
            file.write(safetensors_bytes(shard, options, **about))
    if len(shards) > 1:
        where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        names.append(f"{preset}{INDEX}")
        total = sum(map(_size, shards))
        write_json(folder / names[-1], {"metadata": {"total_size": total}, "weight_map": where})
    return [folder / name for name in names]


def _shards(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split the tensors, in their order, into parts of at most SHARD_BYTES."""
    parts: list[dict[str, Tensor]] = [{}]
    for name, tensor in state.items():
        if parts[-1] and _size({**parts[-1], name: tensor}) > SHARD_BYTES:
            parts.append({})
        parts[-1][name] = tensor
    return parts


def _size(state: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in state.values())


def _update_checksums(files: list[Path], preset: str, folder: Path, links: Path) -> None:
    """Add a preset's files to the checksums, and delete files of its earlier release that are not among them."""
    entries, new = read_checksums(folder), {path.name: checksum(path) for path in files}
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
    checkpoint: Annotated[Path | None, typer.Argument(help="Weights of a training, .pt or .safetensors.")] = None,
    preset: Annotated[str, typer.Argument(help="Preset of the weights.")] = DEFAULT_PRESET,
    mean_with: Annotated[
        list[Path] | None, typer.Option("--mean-with", help="Another training's weights; the mean of all is released.")
    ] = None,
    bioimageio: Annotated[
        Path | None,
        typer.Option("--bioimageio", metavar="DIR", help="Package the released weights for the BioImage Model Zoo."),
    ] = None,
) -> None:
    """Release the weights in CHECKPOINT as those of PRESET, and print the SHA-256 of each file."""
    show_errors_as_sentences()
    if (checkpoint is None) == (bioimageio is None) or (bioimageio is not None and mean_with):
        given = "both" if bioimageio is not None else "neither"
        raise ConfigError("CHECKPOINT, to release it, or --bioimageio DIR", given, "Give one of them.")
    if bioimageio is not None:
        from scripts.model_zoo import write_packages

        for path in write_packages(bioimageio):
            typer.echo(f"{checksum(path)}  {path}")
        return
    assert checkpoint is not None
    for path in release(checkpoint, preset, mean_with=mean_with or ()):
        typer.echo(f"{checksum(path)}  {path.relative_to(_PACKAGE.parent)}")


if __name__ == "__main__":
    typer.run(main)
