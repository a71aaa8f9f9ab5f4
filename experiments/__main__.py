"""The command ``python -m experiments``."""

from __future__ import annotations

import typer

from experiments.check import check
from experiments.classification import table4
from experiments.figures import figure
from experiments.nuclei import nuclei
from experiments.prepare import prepare
from experiments.quality import choices, ideas, table1, table2
from experiments.segmentation import table3
from experiments.stains import stains
from monai_iste.cli.options import ThreadsOption
from monai_iste.errors import show_errors_as_sentences
from monai_iste.processors import sleep_while_waiting, use_threads

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(prepare)
app.command()(table1)
app.command()(table2)
app.command()(choices)
app.command()(ideas)
app.command()(table3)
app.command()(table4)
app.command()(nuclei)
app.command()(stains)
app.command()(figure)
app.command()(check)


@app.callback()
def main(threads: ThreadsOption = None) -> None:
    """Run the paper's experiments, and those on nuclei and stains."""
    show_errors_as_sentences()
    sleep_while_waiting()  # the trainings, which are programs of their own
    use_threads(threads)


if __name__ == "__main__":
    app()
