"""Comparison of methods trained with one budget and scored under one protocol on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import typer

from experiments.methods import Budget, Method
from experiments.progress import Training, describe_progress
from experiments.runs import is_finished, read_result, run_bundle, seconds_of
from experiments.tiles import label_tiles
from monai_iste.data import image_datalist
from monai_iste.errors import DataError, ISTEError
from monai_iste.io.files import checksum
from monai_iste.io.json_files import check_shape
from monai_iste.metrics import get_protocol
from monai_iste.metrics.fid import can_measure_fid
from monai_iste.metrics.manifest import fingerprint, manifest
from monai_iste.networks.weights import read_weights

_STEPS_PER_EPOCH = 50  # steps between checkpoints

# What is used of the results of an evaluation.
_REPORT = {"images": [{"image": str, "scale": float, "method": str, "psnr": float, "ssim": float}]}

_INTERPOLATION = {"inferer": "{'_target_': 'SimpleInferer'}"}  # bicubic is evaluated on whole images


class Run(NamedTuple):
    """Training of one network: method, scale (None for methods of any scale), seed and steps."""

    method: str
    scale: int | None
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        at = "" if self.scale is None else f"-x{self.scale}"
        return f"{self.method}{at}-{self.steps}-seed{self.seed}"


class Study:
    """Train and evaluate a set of methods in one folder.

    Args:
        methods: methods to compare.
        root: folder with ``train/``, ``val/`` and ``test/``.
        budget: budget of every training.
        protocol: protocol of the scores; its degradation is used in training too.
        folder: output folder; finished runs in it are not repeated.
        crop: side of the scored center crop in pixels.
        steps: steps of methods whose number is not the budget's.
        also: further folders of test images, by name; the trained networks are scored on them too.
    Raises:
        DataError: one of the three folders is missing, or a tile is not in the table of its folder
            (:func:`~experiments.tiles.label_tiles`).
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        root: Path,
        budget: Budget,
        protocol: str,
        folder: Path,
        crop: int = 288,
        steps: Mapping[str, int] | None = None,
        also: Mapping[str, Path] | None = None,
    ) -> None:
        for part in ("train", "val", "test"):
            if not (root / part).is_dir():
                raise DataError(
                    f"the folders train, val and test in {root}",
                    f"no folder {part}",
                    "Prepare the data: python -m experiments prepare --help.",
                )
        self.methods, self.root, self.budget, self.protocol = methods, root.resolve(), budget, protocol
        self.folder, self.crop, self.steps = folder.resolve(), crop, dict(steps or {})
        self.tests = {"": self.root / "test", **{name: path.resolve() for name, path in (also or {}).items()}}
        self.cases = {name: _cases(path) for name, path in self.tests.items()}
        self.failures: dict[str, str] = {}
        self.records: dict[str, dict[str, Any]] = {}

    def plan_runs(self, method: str, scales: tuple[float, ...], seeds: int) -> list[Run]:
        """List the trainings of a method: one per seed for methods of any scale, one per scale for the others."""
        chosen, steps = self.methods[method], self.steps.get(method, self.budget.steps)
        if not chosen.trained:
            return [Run(method, None, 0, 0)]
        if chosen.any_scale:
            return [Run(method, None, seed, steps) for seed in range(seeds)]
        return [Run(method, int(scale), 0, steps) for scale in chosen.scales(scales)]

    def train_all(self, runs: Sequence[Run]) -> None:
        """Train the networks of a list; one that fails is added to ``failures`` and does not stop the others."""
        runs = [run for run in runs if self.methods[run.method].trained]
        if not all(is_finished(self._folder(run)) for run in runs):
            typer.echo(self.progress(runs), err=True)
        for run in runs:
            if run.name in self.failures or is_finished(self._folder(run)):
                continue
            try:
                self.train(run)
            except ISTEError as error:
                self._fail(run, error)
            else:
                typer.echo(self.progress(runs), err=True)

    def progress(self, runs: Iterable[Run]) -> str:
        """Describe in one line which trainings of a list are finished, and estimate the time of the others."""
        return describe_progress(
            [Training(run._replace(seed=0, steps=0).name, run.steps, seconds_of(self._folder(run))) for run in runs]
        )

    def score_images(self, run: Run, scales: tuple[float, ...], test: str = "") -> list[dict[str, Any]]:
        """Compute one row per test image and scale; if the run fails, return none and add it to ``failures``.

        Args:
            run: training; it is done unless it is finished.
            scales: scales of the table; those that the network has are scored.
            test: name of a further folder of test images; empty for ``test/``.
        """
        if run.name in self.failures:
            return []
        method = self.methods[run.method]
        own = method.scales(scales) if run.scale is None else (float(run.scale),)
        try:
            record = self.train(run) if method.trained else {}
            report = self.evaluate(run, own, test)
        except ISTEError as error:
            self._fail(run, error)
            return []
        self.records[run.name] = self._describe(run, record)
        name = report["images"][-1]["method"]  # the network's rows follow those of bicubic
        fid = {row["scale"]: row["fid"] for row in report.get("fid", {}).get("rows", []) if row["method"] == name}
        cases = self.cases[test]
        return [
            {
                **row,
                **({"case": cases[row["image"]]} if cases else {}),
                "method": run.method,
                "label": method.label,
                "note": method.preset(self.budget.size),
                "seed": run.seed,
                "fid": fid.get(row["scale"]),
                "protocol": self.protocol,
            }
            for row in report["images"][-len(report["images"]) // 2 :]
        ]

    def _fail(self, run: Run, error: ISTEError) -> None:
        self.failures[run.name] = str(error)
        typer.echo(f"{run.name} failed: {error}", err=True)

    def train(self, run: Run) -> dict[str, Any]:
        """Train a network unless it is finished, and return the record of its run."""
        if not is_finished(self._folder(run)):
            typer.echo(f"{run.name}: training", err=True)
        method = self.methods[run.method]
        epochs = -(-run.steps // _STEPS_PER_EPOCH)
        on_grids = bool(self.budget.grid) and method.any_scale
        options = {
            **self._network(run),
            **self.budget.options(),
            **method.options,
            "dataset_dir": self.root,
            "seed": run.seed,
            "steps_per_epoch": round(run.steps / epochs),
            "max_epochs": epochs,
            "val_interval": epochs,
            "val_crop": 96,
            "degradation": get_protocol(self.protocol).degradation,
            "protocol": self.protocol,
            **({"scales": "[4]"} if run.scale is None else {"scale": run.scale}),
            **({"num_rows": self.budget.grid} if on_grids else {}),
        }
        configs = ["train", *method.overlays, *(["grid_points"] if on_grids else []), *method.network_overlays]
        return run_bundle("training", configs, options, self._folder(run))

    def evaluate(self, run: Run, scales: Iterable[float], test: str = "") -> dict[str, Any]:
        """Evaluate a network unless it is done, and return the contents of ``metrics.json``."""
        method = self.methods[run.method]
        what = "-".join([*([test] if test else []), self.protocol, *(f"x{scale:g}" for scale in scales)])
        folder = self._folder(run) / what
        if not is_finished(folder):
            typer.echo(f"{run.name}: scoring on {test or 'test'}", err=True)
        options = {
            **self._network(run),
            "dataset_dir": self.tests[test],
            "protocol": self.protocol,
            "scales": [int(scale) if scale == int(scale) else scale for scale in scales],
            "crop": self.crop,
            **({"checkpoint": self._folder(run) / "model.pt"} if method.trained else _INTERPOLATION),
            **({"network_def#scale": run.scale} if run.scale is not None else {}),
            **({"fid": True} if can_measure_fid() else {}),
        }
        run_bundle("evaluating", ["evaluate", *method.network_overlays], options, folder)
        report: dict[str, Any] = read_result(folder, _REPORT)
        _check_report(report, folder / "metrics.json", self.cases[test])
        return report

    def steps_of_equal_time(self, run: Run) -> int:
        """Compute the number of steps that take the same processor time as ISTE's training, in whole epochs."""
        whole = self.iste_run(run)
        if run.method == "iste":
            return run.steps
        own, iste = (self.train(each)["cpu_seconds"] for each in (run, whole))
        length = min(run.steps, _STEPS_PER_EPOCH)
        return max(1, round(run.steps * iste / own / length)) * length

    def iste_run(self, run: Run) -> Run:
        """Return ISTE's training with the seed of a run, with which it shares its processor time."""
        return Run("iste", None, run.seed, self.steps.get("iste", self.budget.steps))

    def _network(self, run: Run) -> dict[str, Any]:
        """Return the settings of the run's network."""
        method = self.methods[run.method]
        residual = {"network_def#bicubic_residual": self.budget.bicubic_residual} if method.trained else {}
        return {"preset": method.preset(self.budget.size), **residual}

    def _describe(self, run: Run, record: dict[str, Any]) -> dict[str, Any]:
        """Describe a run for the manifest."""
        method = self.methods[run.method]
        if not method.trained:
            return {"preset": "bicubic", "parameters": 0}
        weights = self._folder(run) / "model.pt"
        return {
            "preset": method.preset(self.budget.size),
            "parameters": sum(tensor.numel() for tensor in read_weights(weights).values()),
            "steps": run.steps,
            "seed": run.seed,
            "cpu_seconds": record["cpu_seconds"],
            "seconds": record["seconds"],
            "sha256": checksum(weights),
        }

    def _folder(self, run: Run) -> Path:
        return self.folder / "runs" / run.name

    def describe(self, test: str = "") -> dict[str, Any]:
        """Build the manifest of a test folder: versions, hardware, data, budget, runs and failures."""
        origin = manifest(self.protocol, dataset=image_datalist(self.tests[test]))
        return {
            **origin,
            "training_dataset": fingerprint(image_datalist(self.root / "train")),
            "budget": self.budget._asdict(),
            "cases": len(set(self.cases[test].values())) or None,
            "crop": self.crop,
            "runs": self.records,
            "failures": self.failures,
        }


def _check_report(report: Mapping[str, Any], file: Path, cases: Mapping[str, str]) -> None:
    """Raise DataError unless a report has the same images of bicubic interpolation and of one network, all known.

    Args:
        cases: images whose case is known; empty where none is.
    """
    remedy = f"Restore it, or remove {file.parent}: the images are then scored again."
    images = report["images"]
    halves = images[: len(images) // 2], images[len(images) // 2 :]
    first, second = ([(row["image"], row["scale"]) for row in half] for half in halves)
    if first != second or len({row["method"] for row in halves[1]}) != 1 or halves[0][0]["method"] != "bicubic":
        received = f"{len(images)} rows of which some are missing or changed"
        raise DataError(
            f"rows of bicubic interpolation and of a network on the same images in {file}", received, remedy
        )
    unknown = next((row["image"] for row in images if cases and row["image"] not in cases), None)
    if unknown is not None:
        raise DataError(f"images of the test folder in {file}", repr(unknown), remedy)
    if "fid" in report:
        check_shape(report["fid"], {"rows": [{"scale": float, "method": str, "fid": (float, NoneType)}]}, file, remedy)


def _cases(folder: Path) -> dict[str, str]:
    """Map the images of a folder to their cases; empty if none has several images, or no table tells them."""
    items = image_datalist(folder)
    cases = {item["name"]: label["case"] for item, label in zip(items, label_tiles(items, folder), strict=True)}
    return cases if len(set(cases.values())) < len(cases) else {}
