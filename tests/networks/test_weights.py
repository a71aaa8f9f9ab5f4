"""Weights from files: accepted and refused ones."""

import pickle

import pytest
import safetensors.torch
import torch

from monai_iste.errors import CheckpointError
from monai_iste.networks import create_iste, load_weights


@pytest.fixture
def small():
    torch.manual_seed(0)
    return create_iste("iste_light", texture_channels=8, hidden_channels=8)


@pytest.mark.parametrize("form", ["alone", "training", "safetensors"])
def test_round_trip(small, tmp_path, form):
    state = small.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state if form == "alone" else {"network": state, "optimizer": {}}, path)
    torch.manual_seed(1)
    other = load_weights(create_iste("iste_light", texture_channels=8, hidden_channels=8), path)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), other.state_dict().values(), strict=True))


def test_another_architecture_is_refused_and_nothing_changes(small, tmp_path):
    torch.save(create_iste("iste_light", texture_channels=16).state_dict(), tmp_path / "w.pt")
    before = {k: v.clone() for k, v in small.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"w\.pt, got \d+ tensors that differ .* Name the preset"):
        load_weights(small, tmp_path / "w.pt")
    assert all(torch.equal(before[k], v) for k, v in small.state_dict().items())


def test_missing(small, tmp_path):
    with pytest.raises(CheckpointError, match="which does not exist"):
        load_weights(small, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="which is a folder"):
        load_weights(small, tmp_path)


@pytest.mark.parametrize("content", [{"network": 5}, {"network": {1: torch.zeros(2)}}, [1], None])
def test_files_without_a_state_dictionary(small, tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"damaged or foreign|tensors that differ"):
        load_weights(small, tmp_path / "w.pt")
    torch.save({**small.state_dict(), "encoder.head.weight": 3}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"encoder\.head\.weight"):
        load_weights(small, tmp_path / "w.pt")


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_damaged_files_and_pickled_code_are_refused(small, tmp_path, name, capsys):
    path = tmp_path / name
    for content in (b"", b"not weights", pickle.dumps(Evil())):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or foreign"):
            load_weights(small, path)
    assert "executed" not in capsys.readouterr().out
