"""Trainings and scores of one study."""

from experiments.methods import METHODS, get_budget
from experiments.study import Run, Study


def test_fixed_networks_are_trained_and_scored_at_their_scale(bundle, root, tmp_path):
    work = Study(METHODS, root, get_budget("light", 120), "iste-rgb", tmp_path / "out")
    assert [run.name for run in work.plan_runs("edsr", (2.0, 3.0, 8.0), 3)] == [
        "edsr-x2-120-seed0",
        "edsr-x3-120-seed0",
    ]
    work.score_images(Run("edsr", 3, 0, 120), (2.0, 3.0))
    (_, configs, training, _), (_, _, evaluation, _) = bundle
    assert configs == ["train", "fixed_scale"]
    assert training["scale"] == 3
    assert training["steps_per_epoch"] * training["max_epochs"] == 120
    assert evaluation["network_def#scale"] == 3
    assert evaluation["scales"] == [3]


def test_bicubic_needs_no_training(bundle, root, tmp_path):
    work = Study(METHODS, root, get_budget("light"), "iste-rgb", tmp_path / "out")
    rows = work.score_images(Run("bicubic", None, 0, 0), (2.0,))
    assert [workflow for workflow, *_ in bundle] == ["evaluating"]
    assert "checkpoint" not in bundle[0][2]
    assert {row["method"] for row in rows} == {"bicubic"}
