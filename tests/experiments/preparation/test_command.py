"""The command that prepares a data set: its options reach the preparation, and mistakes are reported."""

import json

import pytest
import typer
from preparation_files import write_cores, write_slides
from typer.testing import CliRunner

from experiments.preparation import prepare_dataset
from experiments.prepare import prepare
from monai_iste.errors import ConfigError


@pytest.fixture
def cores(tmp_path):
    return write_cores(tmp_path / "source")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    return write_slides(tmp_path_factory.mktemp("slides"))


def run(*words):
    app = typer.Typer()
    app.command()(prepare)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_prepares(cores, tmp_path):
    result = run("tma", cores, tmp_path / "root", "--counts", "8,2,2", "--seed", "4")
    assert result.exit_code == 0, result.output
    assert "8 train, 2 val, 2 test" in result.output
    assert json.loads((tmp_path / "root/dataset.json").read_text())["seed"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["glas"], "one of tcga, tma, histosr, got 'glas'"),
        (["tma", "--counts", "8,2"], "--counts as TRAIN,VAL,TEST, got '8,2'"),
        (["tma", "--tile-size", "512"], "options of tma, got tile"),
    ],
)
def test_mistakes_in_the_command_are_said(words, message, cores, tmp_path):
    error = run(words[0], cores, tmp_path / "root", *words[1:]).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)


def test_options_reach_the_preparation_of_slides(slides, tmp_path):
    words = ["--counts", "2,1,1", "--slides", "3", "--tile-size", "256", "--min-tissue", "0.9", "--split-by", "slide"]
    assert run("tcga", slides, tmp_path / "root", *words).exit_code == 0
    job = json.loads((tmp_path / "root/dataset.json").read_text())["job"]
    assert (job["tile"], job["min_tissue"], job["split_by"]) == (256, 0.9, "slide")


def test_unknown_data_sets_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one of tcga, tma, histosr"):
        prepare_dataset("pcam", tmp_path, tmp_path / "root")
