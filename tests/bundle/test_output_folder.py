"""One training at a time in an output folder, and the files of one run only, whenever a process is killed."""

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow
from reference import assert_teaches
from trainings import prepare, read, run_differences, train

from monai_iste.bundle import claim_output_dir, release_output_dir, resume_point
from monai_iste.bundle.output_folder import put_aside
from monai_iste.errors import CheckpointError, ConfigError, OutputError, find_error
from monai_iste.io.json_files import read_json

# A training with a loading process, as far as the folder is concerned.
HOLDER = """
import multiprocessing, sys, time
from monai_iste.bundle.output_folder import claim_output_dir
claim_output_dir(sys.argv[1], alone=True)
loading = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
loading.start()
print(loading.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="folders are locked where processes are forked")
def test_a_second_training_is_refused_until_the_first_one_ends_even_if_it_is_killed(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    loading = int(first.stdout.readline())
    try:
        with pytest.raises(OutputError) as caught:
            claim_output_dir(str(tmp_path), alone=True)
        assert_teaches(caught.value, str(tmp_path), "one is running", "another --output_dir")
        claim_output_dir(str(tmp_path))  # an evaluation or inference is no training
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        os.kill(loading, 0)  # the loading process is still there, and keeps nobody out
        claim_output_dir(str(tmp_path), alone=True)
    finally:
        os.kill(loading, signal.SIGKILL)
        first.kill()
        release_output_dir(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_refused_training_changes_nothing(tmp_path, monkeypatch):
    train(tmp_path, kill_at=5)
    release_output_dir(str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    program = f"from monai_iste.bundle import output_folder as o; o.claim_output_dir({str(tmp_path)!r}, alone=True)"
    first = subprocess.Popen(
        [sys.executable, "-c", f"{program}; print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    first.stdout.readline()
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, resume=False, seed=1)
    assert isinstance(find_error(caught.value), OutputError)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    first.communicate("\n")
    train(tmp_path)
    assert (tmp_path / "model.pt").is_file()


# --- put aside --------------------------------------------------------------------------------------------------------

OLD = ["checkpoint_epoch=3.pt", "checkpoint_epoch=4.pt", "model.pt", "model_best.pt", "metrics.json", "comparison.png"]


class Killed(BaseException):
    pass


def old_run(folder, text="old"):
    for name in (*OLD, "config.json", "tensorboard/events"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def texts(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("earlier", [False, True])
def test_putting_aside_can_be_killed_at_any_instant(earlier, tmp_path, monkeypatch):
    left = [math.inf]  # operations until the process is killed

    def counted(operation):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return operation(*arguments, **options)

        return call

    for name in ("replace", "rename", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    moved = {f"previous/{name}" for name in (*OLD, "config.json", "tensorboard/events")}
    for instant in range(60):
        folder = tmp_path / str(instant)
        old_run(folder)
        if earlier:
            (folder / "previous").mkdir()
            (folder / "previous" / "model.pt").write_text("older")
        left[0] = instant
        try:
            put_aside(folder)
            break
        except Killed:
            left[0] = math.inf
        assert list(texts(folder).values()).count("old") == len(moved)  # nothing is lost
        put_aside(folder)
        assert texts(folder) == dict.fromkeys(moved, "old")
    left[0] = math.inf
    assert len(OLD) < instant < 59


def test_a_run_that_left_nothing_of_worth_does_not_replace_the_one_before(tmp_path):
    old_run(tmp_path)
    put_aside(tmp_path)
    for name in ("config.json", "model_best.pt", "tensorboard/events"):  # stopped before its first checkpoint
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("young")
    put_aside(tmp_path)
    assert set(texts(tmp_path / "previous").values()) == {"old"}
    assert not (tmp_path / "model_best.pt").exists()
    put_aside(tmp_path)
    assert set(texts(tmp_path / "previous").values()) == {"old"}


def test_files_of_the_user_stay(tmp_path):
    old_run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".checkpoint_epoch=5.pt.123.part").write_text("cut off by a crash")
    put_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "previous"]


# --- starting again ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    train(folder, max_epochs=2, seed=1)
    return folder


@pytest.mark.parametrize("instant", ["before the folder is cleared", "before the settings", "step 1", "step 4"])
def test_starting_again_with_another_seed_never_mixes_two_runs(instant, other_seed, tmp_path, monkeypatch):
    train(tmp_path, max_epochs=2)
    old = {name: (tmp_path / name).read_bytes() for name in ("model.pt", "metrics.json", "config.json")}
    steps = {"step 1": 1, "step 4": 4}
    if instant in steps:
        train(tmp_path, max_epochs=2, seed=1, resume=False, kill_at=steps[instant])
    else:
        from monai_iste.bundle import resume

        def killed(*arguments):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(resume, "put_aside" if "cleared" in instant else "write_json", killed)
            with pytest.raises(Killed):
                train(tmp_path, max_epochs=2, seed=1, resume=False)
    settings = read_json(tmp_path / "config.json")
    if settings and settings["seed"] == 0:
        assert (tmp_path / "model.pt").read_bytes() == old["model.pt"]
    else:
        assert not (tmp_path / "model.pt").exists()
        assert not (tmp_path / "metrics.json").exists()
        assert {name: (tmp_path / "previous" / name).read_bytes() for name in old} == old
    if instant == "step 4":  # the other seed again, without the option: it resumes itself
        with pytest.raises(RuntimeError) as caught:
            train(tmp_path, max_epochs=2)
        assert isinstance(find_error(caught.value), CheckpointError)
        assert "another seed" in str(find_error(caught.value))
        flow = train(tmp_path, max_epochs=2, seed=1)
    else:
        flow = train(tmp_path, max_epochs=2, seed=1, resume=False)
    assert flow.trainer.state.iteration == 6
    assert run_differences(tmp_path, other_seed) == []
    assert (tmp_path / "previous" / "model.pt").read_bytes() == old["model.pt"]


def test_weights_to_start_from_are_not_taken_out_of_the_folder_that_is_cleared(tmp_path):
    train(tmp_path, max_epochs=1)
    pretrained = str(tmp_path / "model.pt")
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, max_epochs=1, pretrained=pretrained)
    assert isinstance(find_error(caught.value), ConfigError)
    assert_teaches(find_error(caught.value), "outside the output folder", pretrained)
    assert (tmp_path / "model.pt").is_file()


def test_fewer_epochs_than_an_unfinished_run_has_reached_are_refused(tmp_path):
    train(tmp_path, kill_at=11)
    with pytest.raises(CheckpointError) as caught:
        resume_point(str(tmp_path), max_epochs=2)
    assert_teaches(caught.value, "max_epochs of at least 3", "got 2")
    assert (tmp_path / "checkpoint_epoch=3.pt").is_file()


def test_unusable_images_leave_an_earlier_run_where_it_is(tmp_path):
    train(tmp_path, max_epochs=1)
    with pytest.raises(RuntimeError):
        train(tmp_path, max_epochs=1, dataset_dir=str(tmp_path / "nowhere"))
    assert (tmp_path / "model.pt").is_file()
    assert read(tmp_path / "checkpoint_epoch=1.pt")["trainer"]["iteration"] == 3


def test_the_claim_ends_with_the_workflow(tmp_path):
    flow = prepare(tmp_path)
    assert isinstance(flow, ConfigWorkflow)
    flow.finalize()
    program = f"from monai_iste.bundle import output_folder as o; o.claim_output_dir({str(tmp_path)!r}, alone=True)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
