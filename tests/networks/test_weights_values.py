"""Weights whose values no network can have are refused, in every format, and leave the network as it was."""

import json
from contextlib import suppress

import pytest
import safetensors.torch
import torch
from reference import assert_teaches
from safetensors.torch import save_file
from torch import nn

from monai_iste.errors import CheckpointError
from monai_iste.networks import create_iste, load_network
from monai_iste.networks.weights import load_weights, save_state

BAD = {
    "nan": lambda t: t.index_fill(0, torch.tensor([0]), torch.nan),
    "infinity": lambda t: t.index_fill(0, torch.tensor([0]), -torch.inf),
    "int64": lambda t: t.long(),
    "uint8": lambda t: t.byte(),
    "bool": lambda t: t > 0,
    "complex64": lambda t: t.to(torch.complex64),
    "too large": lambda t: t.double().index_fill(0, torch.tensor([0]), 1e300),  # infinity in float32
    "nan in half": lambda t: t.half().index_fill(0, torch.tensor([0]), torch.nan),
}


def _knows_complex():
    with suppress(KeyError):
        return bool(safetensors.torch.save({"a": torch.zeros(1, dtype=torch.complex64)}))
    return False


def write(path, state):
    if path.suffix == ".pt":
        torch.save({"network": state} if "state" in path.name else state, path)
    elif any(value.is_complex() for value in state.values()) and not _knows_complex():
        pytest.skip("this safetensors writes no complex numbers")
    elif path.suffix == ".safetensors":
        save_file(state, path)
    else:
        names = {key: f"part{i % 2}.safetensors" for i, key in enumerate(state)}
        for part in set(names.values()):
            save_file({key: state[key] for key in state if names[key] == part}, path.with_name(part))
        path.write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", ["a.pt", "state.pt", "a.safetensors", "a.safetensors.index.json"])
def test_refused(kind, name, tmp_path):
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    spoiled = {
        key: value.clone() for key, value in nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).state_dict().items()
    }
    write(tmp_path / name, spoiled)
    load_weights(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)), tmp_path / name)
    spoiled["1.running_var"] = BAD[kind](spoiled["1.running_var"])
    write(tmp_path / name, spoiled)
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, tmp_path / name)
    assert_teaches(caught.value, "finite weights", "1.running_var", name)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_counter_must_be_a_whole_number(tmp_path):
    state = nn.BatchNorm2d(3).state_dict()
    state["num_batches_tracked"] = torch.tensor(1.0)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="float32 numbers in num_batches_tracked"):
        load_weights(nn.BatchNorm2d(3), tmp_path / "a.pt")


@pytest.mark.parametrize("kind", ["nan", "int64", "complex64"])
def test_by_every_way_to_a_network(kind, tmp_path):
    state = create_iste("iste_light").state_dict()
    first = next(iter(state))
    save_state(tmp_path / "a.pt", {**state, first: BAD[kind](state[first])})
    with pytest.raises(CheckpointError, match=first):
        load_network("iste_light", tmp_path / "a.pt")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_still_read(kind, tmp_path):
    state = {key: value.to(kind) for key, value in nn.Conv2d(2, 3, 1).state_dict().items()}
    torch.save(state, tmp_path / "a.pt")
    network = load_weights(nn.Conv2d(2, 3, 1), tmp_path / "a.pt")
    assert torch.equal(network.weight, state["weight"].float())
    assert network.weight.dtype == torch.float32
