"""Options that several commands share, and their conversion of errors to exit codes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

import monai_iste
from monai_iste.errors import DataError, ISTEError, OutputError, find_error

if TYPE_CHECKING:
    from torch import nn

PresetOption = Annotated[str, typer.Option("--preset", help="Network, see: monai-iste presets.")]
WeightsOption = Annotated[
    Optional[Path],
    typer.Option("--weights", help="Weights of the preset, .safetensors or .pt, instead of the released."),
]

DeviceOption = Annotated[Optional[str], typer.Option("--device", help="cpu, cuda, cuda:1; default: the GPU if any.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
UntrainedOption = Annotated[bool, typer.Option("--allow-untrained", help="Random weights where none are released.")]


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and ``timeout`` send it; handled like Ctrl-C."""


@contextmanager
def sentences() -> Iterator[None]:
    """Convert errors of the library, Ctrl-C and SIGTERM to one line and an exit code."""
    from PIL import Image

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the error contains the same message
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # images that are too large raise a DataError
    try:
        yield
    except (ISTEError, RuntimeError) as error:
        known = find_error(error)  # MONAI wraps what a transform raises
        if known is None:
            raise
        typer.echo(f"error: {known}", err=True)
        raise typer.Exit(known.exit_code) from error
    except BrokenPipeError:  # the reader of the output has ended
        raise
    except OSError as error:  # of an input, such as a name that is too long: outputs raise OutputError
        typer.echo(f"error: {error.strerror}: {error.filename or 'standard output'}", err=True)
        raise typer.Exit((DataError if error.filename else OutputError).exit_code) from error
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        typer.echo(f"{what}: finished files are kept; an unfinished slide continues with --resume", err=True)
        raise typer.Exit(code) from error


def log(text: str) -> None:
    """Print a line to standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=typer.get_text_stream("stderr"))


def network_of(
    preset: str,
    weights: Path | None,
    device: str | None,
    precision: str,
    threads: int | None,
    allow_untrained: bool,
) -> tuple[nn.Module, dict[str, Any]]:
    """Load the network of a command.

    Returns:
        the network, and its description for a report.
    """
    import torch

    from monai_iste.networks.presets import released_weights
    from monai_iste.networks.runtime import default_device, emulates_bf16, resolve_network

    if threads is not None:
        torch.set_num_threads(threads)
    device = device or default_device()
    network = resolve_network(preset, device, precision, weights, allow_untrained)
    if precision == "bf16" and emulates_bf16(device):
        typer.echo("warning: this processor only emulates bfloat16, at a fraction of fp32's speed", err=True)
    path = weights or released_weights(preset)
    if path is None:
        typer.echo("warning: the weights are random; the result shows nothing about the method", err=True)
    about = {"preset": preset, "weights": path and str(path), "device": device, "precision": precision}
    return network, {"version": monai_iste.__version__, **about}


#: Option of several commands. The limit is above what any machine has: systems end a process that asks for too many.
ThreadsOption = Annotated[Optional[int], typer.Option("--threads", min=1, max=1024, help="Processor threads.")]
