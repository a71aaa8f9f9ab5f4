"""Keys, values and output folders that cannot be are refused before a run."""

import pytest
from bundle_workflows import train
from reference import assert_teaches

from monai_iste.errors import (
    ConfigError,
    OutputError,
    find_error,
)


def test_a_misspelled_key_is_refused(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, learnign_rate=1e-3)
    error = find_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "'learnign_rate'. Did you mean 'learning_rate'?" in str(error)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, **{"train#trainer#max_epoch": 3})
    assert "'max_epoch'" in str(find_error(caught.value))
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, degrad={"_target_": "RandMixedDegradationd"})
    assert "'degrad'. Did you mean 'degrade'?" in str(find_error(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 0), ("steps_per_epoch", "many"), ("batch_size", -2), ("lr_size", 16.5), ("num_points", True),
        ("val_interval", 0), ("num_workers", -1), ("seed", "abc"), ("learning_rate", "nan"), ("learning_rate", -1),
        ("max_scale", "abc"), ("resume", "false"), ("dataset_dir", 2024), ("output_dir", 5), ("device", "warp"),
        ("device", "cuda:99"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, **{name: value})
    error = find_error(caught.value)
    assert isinstance(error, ConfigError)
    assert_teaches(error, name, repr(value))
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, output_dir=str(tmp_path / "file" / "out"))
    error = find_error(caught.value)
    assert isinstance(error, OutputError)
    assert "Name another --output_dir" in str(error)
