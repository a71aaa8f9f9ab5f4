"""Command ``monai-iste``: upscale images and slides, compare with bicubic, list the presets, view slides.

Every error is one sentence on standard error and an exit code: 2 options, presets or configuration, 3 input,
4 output, 5 weights, 7 shape, 8 scale (those of :mod:`monai_iste.errors`), 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM). Results go to standard output.

The commands import what they need when they run: the help needs neither PyTorch nor MONAI.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated

import typer

import monai_iste
from monai_iste.cli.compare import compare
from monai_iste.cli.options import Terminated, sentences
from monai_iste.cli.upscale import upscale
from monai_iste.cli.view import view
from monai_iste.processors import sleep_while_waiting

app = typer.Typer(
    name="monai-iste",
    help="Super-resolve H&E histopathology by any factor. Not for diagnosis: new pixels are inferred, not measured.",
    epilog="Exit codes: 0 done, 2 options or preset, 3 input, 4 output, 5 weights, 7 shape, 8 scale, 130 interrupted, "
    "143 terminated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # errors are sentences, and defects keep their plain traceback
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of ``monai-iste``."""

    def terminate(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    sleep_while_waiting()
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: file names may not be valid text
    app(prog_name="monai-iste")


def _open_closed_streams() -> None:
    """Open the null device in place of closed standard streams, as in ``monai-iste ... 2>&-``.

    Otherwise the next file that is opened takes the number of the stream, and libraries write warnings into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: those below are open by now
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(monai_iste.__version__)
        raise typer.Exit


# --- presets ----------------------------------------------------------------------------------------------------------


@app.command()
@sentences()
def presets() -> None:
    """List the networks: name, parameters, whether weights are released, and their terms."""
    from monai_iste.networks import PRESETS, create_iste, released_weights

    for name, preset in PRESETS.items():
        count = sum(parameter.numel() for parameter in create_iste(name).parameters())
        path = released_weights(name)
        weights = "no weights" if path is None else f"weights, {os.path.getsize(path) / 1e6:.1f} MB"
        typer.echo(f"{name:12}{count / 1e6:6.2f} M  {weights}\n    {preset.summary}\n    terms: {preset.terms}")


app.command()(upscale)
app.command()(compare)
app.command()(sentences()(view))


if __name__ == "__main__":
    main()
