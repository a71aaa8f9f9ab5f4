"""The bounds of setup.py: lower bounds are tested, upper bounds exist only where a newer version breaks."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUND = re.compile(r"([A-Za-z0-9_-]+)(?:\[.*\])?(.*)")


@pytest.fixture(scope="module")
def settings() -> dict:
    """The contents of setup.py."""
    setuptools, found = pytest.importorskip("setuptools"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **settings: found.update(settings))
        runpy.run_path(str(ROOT / "setup.py"))
    return found


@pytest.fixture(scope="module")
def oldest() -> dict[str, str]:
    """The pins of the oldest versions."""
    lines = (Path(__file__).parent / "constraints-oldest.txt").read_text().splitlines()
    pins = (line.partition("#")[0].strip() for line in lines)
    return dict(pin.split("==") for pin in pins if pin)


def release(version: str) -> list[int]:
    """A version as numbers, without zeros at its end: 1.26 is 1.26.0."""
    numbers = [int(number) for number in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return numbers


def test_lower_bounds_are_those_that_are_run(settings, oldest):
    bounds = {}
    for requirement in [*settings["install_requires"], *settings["extras_require"]["test"]]:
        name, bound = BOUND.fullmatch(requirement).groups()
        assert bound.startswith(">="), f"{name} has no lower bound"
        bounds[name] = bound.partition(",")[0].removeprefix(">=")
    assert {name: release(oldest[name]) for name in bounds} == {name: release(b) for name, b in bounds.items()}


def test_neither_python_nor_torch_is_bounded_above(settings):
    (torch,) = (bound for bound in settings["install_requires"] if BOUND.fullmatch(bound)[1] == "torch")
    assert "<" not in torch + settings["python_requires"]
    assert "=" not in torch.replace(">=", "")


def test_no_extra_but_those_of_their_own_environment_brings_torchvision(settings):
    """torchvision demands one exact torch, so that it would exchange the one that is there."""
    for extra, requirements in settings["extras_require"].items():
        if extra not in ("label", "dicom", "napari"):
            names = {BOUND.fullmatch(requirement)[1] for requirement in requirements}
            assert names.isdisjoint({"torch", "torchvision", "pytorch-fid", "torchmetrics", "timm"})
