"""Commands for Tables I and II, open choices and ideas: one budget, one protocol, the same images for all methods."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from experiments.methods import ABLATIONS, CHOICES, IDEAS, METHODS, VARIANTS, Method, get_budget
from experiments.statistics import compare, mean_over_cases, mean_over_images, mean_over_seeds
from experiments.study import Run, Study
from experiments.table_text import csv_text, write_files
from experiments.tables import write_comparisons, write_tables
from monai_iste.errors import ConfigError, TrainingError
from monai_iste.io.json_files import write_json

#: Protocol of each data set; HistoSR's low-resolution images are bicubic without blur.
DATASETS = {"tcga": "iste-rgb", "tma": "iste-rgb", "histosr": "bicubic-rgb", "folder": "iste-rgb"}

RootOption = Annotated[Path, typer.Option("--root", help="Folder of images, in train/, val/ and test/.")]

BudgetOption = Annotated[str, typer.Option("--budget", help="light or small (CPUs), paper (GPUs).")]

StepsOption = Annotated[
    Optional[str],
    typer.Option("--steps", metavar="N[,METHOD=N...]", help="Training steps, of single methods too; default: budget."),
]

SeedsOption = Annotated[
    str,
    typer.Option("--seeds", metavar="N[,METHOD=N...]", help="Number of trainings of each method of any scale."),
]

ScalesOption = Annotated[str, typer.Option("--scales", help="Scale factors, separated by commas.")]

CropOption = Annotated[int, typer.Option("--crop", min=64, help="Side of the scored center crop, pixels.")]

EqualOption = Annotated[
    str, typer.Option("--equal", help="Same number of steps, or same processor time (that of ISTE): steps or time.")
]

GridOption = Annotated[
    int,
    typer.Option(
        "--grid",
        min=0,
        help="Points of the loss of all methods of any scale: 0 scattered ones, N those of N random rows and columns.",
    ),
]

AlsoOption = Annotated[
    Optional[list[str]],
    typer.Option("--also", metavar="NAME=DIR", help="Score on these images too, in tables of their own; repeatable."),
]

OutputOption = Annotated[
    Path, typer.Option("--output-dir", help="Folder for trainings and tables; interrupted runs resume.")
]


def table1(
    root: RootOption,
    dataset: Annotated[str, typer.Option("--dataset", help="tcga, tma, histosr, or folder for any other.")] = "folder",
    methods: Annotated[
        str,
        typer.Option(
            "--methods", help=f"Methods to compare, separated by commas; beyond the paper's: {', '.join(VARIANTS)}."
        ),
    ] = ",".join(METHODS),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = "1",
    scales: ScalesOption = "2,3,4,6,8",
    equal: EqualOption = "steps",
    crop: CropOption = 288,
    grid: GridOption = 0,
    also: AlsoOption = None,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Table I: train every method with one budget and score it; finished runs are not repeated."""
    chosen = _chosen({**METHODS, **VARIANTS}, methods)
    study = _study(chosen, root, dataset, budget, steps, grid, also, crop, output_dir)
    images = _score(study, _numbers(scales), seeds, equal)
    reported = None if dataset == "folder" else dataset
    _write_all(study, images, output_dir, "table1", f"Table I, {_caption(study, dataset)}", equal, reported)


def table2(
    root: RootOption,
    dataset: Annotated[str, typer.Option("--dataset", help="tcga, or folder for any other.")] = "folder",
    ablations: Annotated[str, typer.Option("--ablations", help="Rows to compute, separated by commas.")] = ",".join(
        ABLATIONS
    ),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = "1",
    scales: ScalesOption = "2,3,4",
    equal: EqualOption = "steps",
    crop: CropOption = 288,
    grid: GridOption = 0,
    also: AlsoOption = None,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Table II: ISTE without one of its modules. In the folder of Table I, ISTE itself is not trained again."""
    study = _study(_chosen(ABLATIONS, ablations), root, dataset, budget, steps, grid, also, crop, output_dir)
    images = _score(study, _numbers(scales), seeds, equal)
    reported = dataset if dataset == "tcga" else None  # the paper has its ablations on no other
    _write_all(study, images, output_dir, "table2", f"Table II, {_caption(study, dataset)}", equal, reported, 2)


def choices(
    root: RootOption,
    choices: Annotated[str, typer.Option("--choices", help="Rows to compute, separated by commas.")] = ",".join(
        CHOICES
    ),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = "1",
    scales: ScalesOption = "2,3,4,6,8",
    equal: EqualOption = "steps",
    crop: CropOption = 288,
    grid: GridOption = 0,
    also: AlsoOption = None,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Open choices of the paper, decided otherwise. In the folder of Table I, ISTE itself is not trained again."""
    study = _study(_chosen(CHOICES, choices), root, "folder", budget, steps, grid, also, crop, output_dir)
    images = _score(study, _numbers(scales), seeds, equal)
    _write_all(study, images, output_dir, "choices", f"Open choices, {_caption(study, 'folder')}", equal)


def ideas(
    root: RootOption,
    ideas: Annotated[str, typer.Option("--ideas", help="Rows to compute, separated by commas.")] = ",".join(IDEAS),
    budget: BudgetOption = "light",
    steps: StepsOption = None,
    seeds: SeedsOption = "1",
    scales: ScalesOption = "2,3,4,6,8",
    equal: EqualOption = "steps",
    crop: CropOption = 288,
    grid: GridOption = 0,
    also: AlsoOption = None,
    output_dir: OutputOption = Path("runs/table1"),
) -> None:
    """Ideas that might pay where STF and LFI do not. In the folder of Table I, ISTE and LIIF are not trained again."""
    study = _study(_chosen(IDEAS, ideas), root, "folder", budget, steps, grid, also, crop, output_dir)
    images = _score(study, _numbers(scales), seeds, equal)
    _write_all(study, images, output_dir, "ideas", f"Ideas, {_caption(study, 'folder')}", equal)


def _study(
    methods: Mapping[str, Method],
    root: Path,
    dataset: str,
    budget: str,
    steps: str | None,
    grid: int,
    also: list[str] | None,
    crop: int,
    folder: Path,
) -> Study:
    common, own = _per_method("--steps", steps)
    chosen = get_budget(budget, common, grid)
    return Study(methods, root, chosen, _protocol(dataset), folder, crop, own, _test_folders(also or []))


def _protocol(dataset: str) -> str:
    if dataset not in DATASETS:
        raise ConfigError(f"a data set: {', '.join(DATASETS)}", repr(dataset), "Choose one of these.")
    return DATASETS[dataset]


def _score(study: Study, scales: tuple[float, ...], seeds: str, equal: str) -> list[dict[str, Any]]:
    """Train all methods and score them on every image of every test folder, whose name is the rows' ``test``.

    A method that fails does not stop the others. All first seeds come before the second ones.
    """
    if equal not in ("steps", "time"):
        raise ConfigError("--equal steps or time", repr(equal), "Choose one of these.")
    if equal == "time" and "iste" not in study.methods:
        raise ConfigError("iste among the methods of --equal time", "a choice without it", "Add it.")
    common, own = _per_method("--seeds", seeds)
    plans = [study.plan_runs(name, scales, own.get(name, common or 1)) for name in study.methods]
    runs = sorted((run for plan in plans for run in plan), key=lambda run: run.seed)
    if equal == "time":
        runs = _at_equal_time(study, runs)
    study.train_all(runs)
    rows = [
        {**row, "test": test} for run in runs for test in study.tests for row in study.score_images(run, scales, test)
    ]
    order = list(study.methods)
    return sorted(rows, key=lambda row: order.index(row["method"]))


def _at_equal_time(study: Study, runs: list[Run]) -> list[Run]:
    """Give every training of any scale the steps that last as long as ISTE's training of its seed."""
    study.train_all(list(dict.fromkeys([*runs, *(study.iste_run(run) for run in runs if run.scale is None)])))
    found = []
    for run in runs:
        timed = study.methods[run.method].any_scale and study.methods[run.method].trained
        if timed and not study.failures.keys() & {run.name, study.iste_run(run).name}:
            run = run._replace(steps=study.steps_of_equal_time(run))
        found.append(run)
    return found


def _write_all(
    study: Study,
    images: list[dict[str, Any]],
    folder: Path,
    name: str,
    caption: str,
    equal: str,
    reported: str | None = None,
    number: int = 1,
) -> None:
    """Write the tables of every test folder; then raise if a method failed.

    Args:
        reported: data set whose numbers from the paper's table ``number`` are added to the table of ``test/``; None
            adds none.
    """
    if equal == "time":
        name, caption = f"{name}-equal-time", f"{caption}, steps for equal processor time"
    for test in study.tests:
        rows = [{key: row[key] for key in row if key != "test"} for row in images if row["test"] == test]
        if not rows:
            raise TrainingError("a method that could be scored", "none", f"See the logs in {folder}.")
        of_test = f"{name}-{test}" if test else name
        _write(study, rows, test, folder, of_test, caption + (f", scored on {test}" if test else ""),
               None if test else reported, number)  # fmt: skip
    if study.failures:
        raise TrainingError(
            "every method to end well",
            f"{len(study.failures)} that failed ({', '.join(study.failures)})",
            "See above why.",
        )


def _write(
    study: Study,
    images: list[dict[str, Any]],
    test: str,
    folder: Path,
    name: str,
    caption: str,
    reported: str | None,
    number: int,
) -> None:
    """Write the tables of one test folder, the differences of ISTE to the others, scores by case and the manifest."""
    rows = mean_over_seeds(mean_over_images(images))
    paths = write_tables(rows, folder, name, f"{caption}.", reported, number)
    others = [key for key, method in study.methods.items() if method.any_scale and method.trained and key != "iste"]
    cases = {row.get("case") for row in images}
    if cases - {None}:
        by_case = mean_over_cases(images)
        write_files(folder, f"{name}-cases", {".csv": csv_text(list(by_case[0]), by_case)})
    comparisons = [] if len(cases - {None}) == 1 else compare(images, "iste", others)
    if comparisons:
        paths += write_comparisons(
            comparisons, folder, f"{name}-differences", f"{caption}: differences of ISTE to others."
        )
    write_json(folder / f"{name}-manifest.json", study.describe(test))
    typer.echo(next(path for path in paths if path.suffix == ".md").read_text())


def _caption(study: Study, dataset: str) -> str:
    budget, data = study.budget, "own images" if dataset == "folder" else dataset.upper()
    other = ", ".join(f"{name} {steps}" for name, steps in study.steps.items() if name in study.methods)
    points = (
        f"the points of {budget.grid} rows and {budget.grid} columns" if budget.grid else f"{budget.num_points} points"
    )
    return (
        f"{data}, center crops of {study.crop} pixels, protocol {study.protocol}, {budget.size} presets, "
        f"{budget.steps} steps{f' ({other})' if other else ''} of {budget.batch_size} crops of {budget.lr_size} x "
        f"{budget.lr_size} low-resolution pixels, {points} for methods of any scale, "
        f"{'with' if budget.bicubic_residual else 'without'} bicubic residual"
    )


def _chosen(known: Mapping[str, Method], names: str) -> dict[str, Method]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"methods among {', '.join(known)}", repr(name), "Choose among these.")
    return {name: method for name, method in known.items() if name in wanted}


def _per_method(option: str, text: str | int | None) -> tuple[int | None, dict[str, int]]:
    """Parse a number for all methods, with other numbers of single ones: ``5000,edsr=2000``."""
    common, own = None, {}
    known = {**METHODS, **ABLATIONS, **CHOICES, **IDEAS, **VARIANTS}
    for word in [] if text is None else str(text).split(","):
        found = re.fullmatch(r"\s*(?:(\w+)=)?([1-9]\d{0,8})\s*", word)
        if found is None or (found[1] and found[1] not in known) or (not found[1] and common is not None):
            raise ConfigError(
                f"{option} N or N,METHOD=N,... with whole numbers from 1 and methods among {', '.join(known)}",
                repr(text),
                f"Try {option} 3, or {option} 1,liif=3.",
            )
        if found[1]:
            own[found[1]] = int(found[2])
        else:
            common = int(found[2])
    return common, own


def _test_folders(texts: list[str]) -> dict[str, Path]:
    """Parse ``NAME=DIR`` to further folders of test images."""
    folders: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not re.fullmatch(r"[A-Za-z]\w*", name) or not folder or name in folders:
            raise ConfigError(
                "--also NAME=DIR, each name once, of letters, digits and underscores", repr(text), "Try --also old=DIR."
            )
        if not Path(folder).is_dir():
            raise ConfigError("a folder of images in --also", repr(text), "Check the path.")
        folders[name] = Path(folder)
    return folders


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError("scales such as 2,3,4", repr(text), "Separate numbers by commas.") from error
