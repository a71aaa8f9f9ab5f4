"""Commands for Tables I and II and the open choices: one budget, one protocol and the same images for all methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.methods import ABLATIONS, CHOICES, METHODS, Method, get_budget
from experiments.statistics import compare, mean_over_images, mean_over_seeds
from experiments.study import Study
from experiments.tables import write_comparisons, write_tables
from monai_iste.errors import ConfigError, TrainingError
from monai_iste.io.files import write_json

#: Protocol of each data set; HistoSR's low-resolution images are bicubic without blur.
DATASETS = {"tcga": "iste-rgb", "tma": "iste-rgb", "histosr": "bicubic-rgb", "folder": "iste-rgb"}

RootOption = Annotated[Path, typer.Option("--root", help="Folder of images, in train/, val/ and test/.")]

BudgetOption = Annotated[str, typer.Option("--budget", help="light or small (CPUs), paper (GPUs).")]

StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps; default: the budget's.")]

SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Number of trainings of each method of any scale.")]

ScalesOption = Annotated[str, typer.Option("--scales", help="Scale factors, separated by commas.")]

CropOption = Annotated[int, typer.Option("--crop", min=64, help="Side of the scored center crop, pixels.")]

OutputOption = Annotated[
    Path, typer.Option("--output-dir", help="Folder for trainings and tables; interrupted runs resume.")
]


def table1(
    root: RootOption,
    dataset: Annotated[str, typer.Option("--dataset", help="tcga, tma, histosr, or folder for any other.")] = "folder",
    methods: Annotated[str, typer.Option("--methods", help="Methods to compare, separated by commas.")] = ",".join(
        METHODS
    ),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = 1,
    scales: ScalesOption = "2,3,4,6,8",
    equal: Annotated[
        str, typer.Option("--equal", help="Same number of steps, or same processor time (that of ISTE): steps or time.")
    ] = "steps",
    crop: CropOption = 288,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Table I: train every method with one budget and score it; finished runs are not repeated."""
    if equal not in ("steps", "time"):
        raise ConfigError("--equal steps or time", repr(equal), "Choose one of these.")
    study = Study(_chosen(METHODS, methods), root, get_budget(budget, steps), _protocol(dataset), output_dir, crop)
    name = "table1" if equal == "steps" else "table1-equal-time"
    images = _score(study, _numbers(scales), seeds, equal)
    caption = f"Table I, {_caption(study, dataset)}{', steps for equal processor time' if equal == 'time' else ''}"
    _write(study, images, output_dir, name, caption, None if dataset == "folder" else dataset)


def table2(
    root: RootOption,
    dataset: Annotated[str, typer.Option("--dataset", help="tcga, or folder for any other.")] = "folder",
    ablations: Annotated[str, typer.Option("--ablations", help="Rows to compute, separated by commas.")] = ",".join(
        ABLATIONS
    ),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = 1,
    scales: ScalesOption = "2,3,4",
    crop: CropOption = 288,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Table II: ISTE without one of its modules. In the folder of Table I, ISTE itself is not trained again."""
    study = Study(_chosen(ABLATIONS, ablations), root, get_budget(budget, steps), _protocol(dataset), output_dir, crop)
    images = _score(study, _numbers(scales), seeds)
    reported = dataset if dataset == "tcga" else None  # the paper has its ablations on no other
    _write(study, images, output_dir, "table2", f"Table II, {_caption(study, dataset)}", reported=reported, number=2)


def choices(
    root: RootOption,
    choices: Annotated[str, typer.Option("--choices", help="Rows to compute, separated by commas.")] = ",".join(
        CHOICES
    ),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = 1,
    scales: ScalesOption = "2,3,4,6,8",
    crop: CropOption = 288,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Open choices of the paper, decided otherwise. In the folder of Table I, ISTE itself is not trained again."""
    study = Study(_chosen(CHOICES, choices), root, get_budget(budget, steps), DATASETS["folder"], output_dir, crop)
    images = _score(study, _numbers(scales), seeds)
    _write(study, images, output_dir, "choices", f"Open choices, {_caption(study, 'folder')}")


def _protocol(dataset: str) -> str:
    if dataset not in DATASETS:
        raise ConfigError(f"a data set: {', '.join(DATASETS)}", repr(dataset), "Choose one of these.")
    return DATASETS[dataset]


def _score(study: Study, scales: tuple[float, ...], seeds: int, equal: str = "steps") -> list[dict[str, Any]]:
    """Score every image with every method; a method that fails does not stop the others."""
    images: list[dict[str, Any]] = []
    for name in study.methods:
        for run in study.plan_runs(name, scales, seeds):
            if equal == "time" and study.methods[name].any_scale and study.methods[name].trained:
                run = run._replace(steps=study.steps_of_equal_time(run))
            images += study.score_images(run, scales)
    return images


def _write(
    study: Study,
    images: list[dict[str, Any]],
    folder: Path,
    name: str,
    caption: str,
    reported: str | None = None,
    number: int = 1,
) -> None:
    """Write the tables, the differences of ISTE to the others and the manifest; then raise if a method failed.

    Args:
        reported: data set whose numbers from the paper's table ``number`` are added; None adds none.
    """
    if not images:
        raise TrainingError("a method that could be scored", "none", f"See the logs in {folder}.")
    rows = mean_over_seeds(mean_over_images(images))
    paths = write_tables(rows, folder, name, f"{caption}.", reported, number)
    others = [key for key, method in study.methods.items() if method.any_scale and method.trained and key != "iste"]
    comparisons = compare(images, "iste", others)
    if comparisons:
        paths += write_comparisons(
            comparisons, folder, f"{name}-differences", f"{caption}: differences of ISTE to others."
        )
    write_json(folder / f"{name}-manifest.json", study.describe())
    typer.echo(next(path for path in paths if path.suffix == ".md").read_text())
    if study.failures:
        raise TrainingError(
            "every method to end well",
            f"{len(study.failures)} that failed ({', '.join(study.failures)})",
            "See above why.",
        )


def _caption(study: Study, dataset: str) -> str:
    budget, data = study.budget, "own images" if dataset == "folder" else dataset.upper()
    return (
        f"{data}, center crops of {study.crop} pixels, protocol {study.protocol}, {budget.size} presets, "
        f"{budget.steps} steps of {budget.batch_size} crops of {budget.lr_size} x {budget.lr_size} low-resolution "
        f"pixels, {'with' if budget.bicubic_residual else 'without'} bicubic residual"
    )


def _chosen(known: Mapping[str, Method], names: str) -> dict[str, Method]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"methods among {', '.join(known)}", repr(name), "Choose among these.")
    return {name: method for name, method in known.items() if name in wanted}


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError("scales such as 2,3,4", repr(text), "Separate numbers by commas.") from error
