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
from monai_iste.errors import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    DataError,
    ISTEError,
    OutputError,
    find_error,
    find_interrupt,
    lacking_resource,
)
from monai_iste.processors import use_threads

if TYPE_CHECKING:
    from torch import nn

PresetOption = Annotated[str, typer.Option("--preset", help="Network, see: monai-iste presets.")]
WeightsOption = Annotated[
    Optional[Path],
    typer.Option("--weights", help="Weights of the preset, .safetensors or .pt, instead of the released."),
]

DeviceOption = Annotated[Optional[str], typer.Option("--device", help="cpu, cuda, cuda:1; default: the GPU if any.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
InputBlurOption = Annotated[
    Optional[float],
    typer.Option("--input-blur", help="Blur of the input, sigma in its pixels; 0: sharp. Default: unknown."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
UntrainedOption = Annotated[bool, typer.Option("--allow-untrained", help="Random weights where none are released.")]


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and ``timeout`` send it; handled like Ctrl-C."""


@contextmanager
def sentences() -> Iterator[None]:
    """Convert errors of the library, Ctrl-C and SIGTERM to one line and an exit code."""
    try:
        from PIL import Image

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the error contains the same message
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # images that are too large raise a DataError
        yield
    except BaseException as error:
        known = _sentence(error)
        if known is None:
            raise
        sentence, exit_code = known
        typer.echo(sentence, err=True)
        raise typer.Exit(exit_code) from error


def _sentence(error: BaseException) -> tuple[str, int] | None:
    """Return the sentence and the exit code of an exception; None: a defect, which keeps its traceback."""
    interrupt = find_interrupt(error)
    if interrupt is not None:
        what, code = (
            ("terminated", EXIT_TERMINATED) if isinstance(interrupt, Terminated) else ("interrupted", EXIT_INTERRUPTED)
        )
        return f"{what}: finished files are kept; an unfinished slide continues with --resume", code
    if isinstance(error, (ISTEError, RuntimeError)):
        known = find_error(error)  # MONAI wraps what a transform raises
        if known is not None:
            return f"error: {known}", known.exit_code
    lacking = lacking_resource(error)
    if lacking is not None:
        return f"error: {lacking}", lacking.exit_code
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # that one: the output's reader has ended
        kind = DataError if error.filename else OutputError  # of an input, such as a name that is too long
        return f"error: {error.strerror}: {error.filename or 'standard output'}", kind.exit_code
    return None


def log(text: str) -> None:
    """Print a line to standard error, above a progress bar if there is one. What cannot be encoded is escaped."""
    from tqdm import tqdm

    stream = typer.get_text_stream("stderr")
    encoding = stream.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def network_of(
    preset: str,
    weights: Path | None,
    device: str | None,
    precision: str,
    threads: int | None,
    allow_untrained: bool,
    input_blur: float | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Load the network of a command.

    Returns:
        the network, and its description for a report.
    """
    from monai_iste.networks.checks import check_input_blur
    from monai_iste.networks.presets import released_weights
    from monai_iste.networks.runtime import default_device, emulates_bf16, resolve_network

    use_threads(threads)
    device = device or default_device()
    input_blur = check_input_blur(input_blur, takes_input_blur=True)
    network = resolve_network(preset, device, precision, weights, allow_untrained, input_blur)
    if precision == "bf16" and emulates_bf16(device):
        typer.echo("warning: this processor only emulates bfloat16, at a fraction of fp32's speed", err=True)
    path = weights or released_weights(preset)
    if path is None:
        typer.echo("warning: the weights are random; the result shows nothing about the method", err=True)
    about = {"preset": preset, "weights": path and str(path), "device": device, "precision": precision}
    return network, {"version": monai_iste.__version__, **about, "input_blur": input_blur}


#: Option of several commands. The limit is above what any machine has: systems end a process that asks for too many.
ThreadsOption = Annotated[
    Optional[int],
    typer.Option("--threads", min=1, max=1024, help="Processor threads; default: all. Pixels do not depend on them."),
]
