"""Tables I and II, and the open choices: all trained with one budget, scored under one protocol on the same images."""

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


RootOption = Annotated[Path, typer.Option("--root", help="Images, in train/, val/ and test/.")]


BudgetOption = Annotated[str, typer.Option("--budget", help="light or small (CPUs), paper (GPUs).")]


StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps, if not the budget's.")]


SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each method of any scale.")]


ScalesOption = Annotated[str, typer.Option("--scales", help="Magnifications, separated by commas.")]


CropOption = Annotated[int, typer.Option("--crop", min=64, help="Side of the scored center crop, pixels.")]


OutputOption = Annotated[Path, typer.Option("--output-dir", help="For trainings and tables; runs there go on.")]


def table1(
    root: RootOption,
    dataset: Annotated[str, typer.Option("--dataset", help="tcga, tma, histosr, or folder for any other.")] = "folder",
    methods: Annotated[str, typer.Option("--methods", help="Some of them, separated by commas.")] = ",".join(METHODS),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = 1,
    scales: ScalesOption = "2,3,4,6,8",
    equal: Annotated[
        str, typer.Option("--equal", help="steps, or time: as many as ISTE's processor time lasts for.")
    ] = "steps",
    crop: CropOption = 288,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Table I: every method trained with one budget and scored; what is there already is not done again."""
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
    ablations: Annotated[str, typer.Option("--ablations", help="Some, separated by commas.")] = ",".join(ABLATIONS),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = 1,
    scales: ScalesOption = "2,3,4",
    crop: CropOption = 288,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Table II: ISTE without one of its modules, scored as Table I. In its folder, ISTE itself is not trained again."""
    study = Study(_chosen(ABLATIONS, ablations), root, get_budget(budget, steps), _protocol(dataset), output_dir, crop)
    images = _score(study, _numbers(scales), seeds)
    reported = dataset if dataset == "tcga" else None  # the paper has its ablations on no other
    _write(study, images, output_dir, "table2", f"Table II, {_caption(study, dataset)}", reported=reported, number=2)


def choices(
    root: RootOption,
    choices: Annotated[str, typer.Option("--choices", help="Some, separated by commas.")] = ",".join(CHOICES),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = 1,
    scales: ScalesOption = "2,3,4,6,8",
    crop: CropOption = 288,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """What the paper leaves open, decided the other way; in the folder of Table I, ISTE itself is not trained again."""
    study = Study(_chosen(CHOICES, choices), root, get_budget(budget, steps), DATASETS["folder"], output_dir, crop)
    images = _score(study, _numbers(scales), seeds)
    _write(study, images, output_dir, "choices", f"Open choices, {_caption(study, 'folder')}")


def _protocol(dataset: str) -> str:
    if dataset not in DATASETS:
        raise ConfigError(f"a data set: {', '.join(DATASETS)}", repr(dataset), "Choose one of these.")
    return DATASETS[dataset]


def _score(study: Study, scales: tuple[float, ...], seeds: int, equal: str = "steps") -> list[dict[str, Any]]:
    """The scores of every image; a method that fails leaves the others standing."""
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
    """The tables in three forms each, what ISTE differs by from the others, the manifest; then the failures, if any.

    Args:
        reported: the data set whose numbers in the paper's table ``number`` stand beside.
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
