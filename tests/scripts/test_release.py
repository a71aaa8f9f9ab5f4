"""Released weights: one command writes them, and every copy holds the same tensors."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference import assert_teaches

import scripts.release
from monai_iste.errors import CheckpointError, ConfigError, OutputError
from monai_iste.io.files import CHECKSUMS, checksum, read_checksums
from monai_iste.networks import PRESETS, create_iste, load_weights, presets, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.weights import read_weights
from scripts.release import release

ROOT = Path(__file__).parents[2]
MODELS, WEIGHTS = Path("bundles/iste/models"), Path("monai_iste/weights")
RELEASED = f"{DEFAULT_PRESET}.safetensors"


@pytest.fixture
def clone(tmp_path):
    for folder in (MODELS, WEIGHTS):
        (tmp_path / "clone" / folder).mkdir(parents=True)
    return tmp_path / "clone"


def assert_equal(*paths: Path) -> None:
    first, *others = (read_weights(path) for path in paths)
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.equal(other[name], first[name]) for name in first)


def test_every_copy_of_the_released_weights_is_the_same():
    assert_equal(ROOT / MODELS / "model.pt", ROOT / MODELS / RELEASED, ROOT / WEIGHTS / RELEASED)


def test_weights_for_research_are_in_the_bundle_alone():
    for preset, about in PRESETS.items():
        assert (ROOT / WEIGHTS / f"{preset}.safetensors").is_file() == (
            about.is_packaged and (ROOT / MODELS / f"{preset}.safetensors").is_file()
        )
    assert released_weights("iste_light").parent == ROOT / MODELS
    assert released_weights(DEFAULT_PRESET).parent == ROOT / WEIGHTS


def test_a_research_release_has_no_link_in_the_package(clone, tmp_path):
    torch.save(create_iste("iste_light").state_dict(), tmp_path / "model.pt")
    release(tmp_path / "model.pt", "iste_light", clone)
    assert present(clone) == [CHECKSUMS] * 2 + ["iste_light.safetensors"]


def test_research_weights_are_said_to_be_in_a_clone(clone, monkeypatch):
    monkeypatch.setattr(presets.resources, "files", lambda package: clone / "monai_iste")
    with pytest.raises(ConfigError) as caught:
        presets.require_weights("iste_light")
    assert_teaches(caught.value, "in a clone of the repository only", "--weights")
    with pytest.raises(ConfigError, match="which has none"):
        presets.require_weights("iste_small")


def test_the_list_of_checksums_is_complete():
    assert read_checksums(ROOT / WEIGHTS) == {
        path.name: checksum(path) for path in (ROOT / MODELS).glob("*.safetensors*")
    }


@pytest.mark.parametrize("weights", (ROOT / MODELS).glob("*.safetensors"), ids=lambda path: path.stem)
def test_the_model_card_names_the_file(weights):
    assert checksum(weights) in weights.with_suffix(".md").read_text()


def test_a_training_is_released(clone, tmp_path):
    checkpoint = tmp_path / "checkpoint_epoch=3.pt"
    torch.save({"network": create_iste(DEFAULT_PRESET).state_dict(), "trainer": {}}, checkpoint)
    names = [MODELS / RELEASED, WEIGHTS / RELEASED, WEIGHTS / CHECKSUMS, MODELS / "model.pt"]
    files = release(checkpoint, repository=clone)
    assert [path.relative_to(clone) for path in files] == names
    assert_equal(checkpoint, files[0], files[1], files[3])
    assert read_checksums(clone / MODELS) == read_checksums(clone / WEIGHTS) == {RELEASED: checksum(files[0])}
    before = [checksum(path) for path in files]
    shutil.move(files[0], tmp_path / "again.safetensors")
    assert release(tmp_path / "again.safetensors", repository=clone) == files
    assert [checksum(path) for path in files] == before
    assert (clone / WEIGHTS / RELEASED).is_symlink()


def test_the_mean_of_several_trainings_is_released(clone, tmp_path):
    files, states = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        states.append(create_iste(DEFAULT_PRESET).state_dict())
        files.append(tmp_path / f"{seed}.pt")
        torch.save(states[-1], files[-1])
    released = read_weights(release(files[0], repository=clone, mean_with=files[1:])[0])
    for name, tensor in released.items():
        a, b, c = (state[name] for state in states)
        torch.testing.assert_close(tensor, (a + b + c) / 3)
    torch.save(create_iste("iste_small").state_dict(), files[1])
    with pytest.raises(CheckpointError) as caught:
        release(files[0], repository=clone, mean_with=files[1:])
    assert_teaches(caught.value, str(files[1]), "tensors that differ")


def test_another_preset_leaves_the_default_alone(clone, tmp_path):
    torch.save(create_iste("iste_small").state_dict(), tmp_path / "model.pt")
    release(tmp_path / "model.pt", "iste_small", clone)
    assert present(clone) == [CHECKSUMS] * 2 + ["iste_small.safetensors"] * 2


def present(clone: Path) -> list[str]:
    return sorted(path.name for path in clone.rglob("*") if path.is_file())


def test_large_weights_go_into_shards_of_half_precision(clone, tmp_path, monkeypatch):
    state = create_iste("iste_small").state_dict()
    torch.save(state, tmp_path / "model.pt")
    torch.save(create_iste(DEFAULT_PRESET).state_dict(), tmp_path / "light.pt")
    release(tmp_path / "light.pt", repository=clone)
    monkeypatch.setattr(scripts.release, "SHARD_BYTES", 3 * 2**20)  # 8 MB in full precision, 4 in half
    first, second, index = release(tmp_path / "model.pt", "iste_small", clone)[:3]
    assert [first.name, second.name] == [f"iste_small-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert max(first.stat().st_size, second.stat().st_size) < 3.1 * 2**20
    loaded = read_weights(index)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor.half()) for name, tensor in state.items())
    network = load_weights(create_iste("iste_small"), index)
    assert next(network.parameters()).dtype == torch.float32
    listed = read_checksums(clone / WEIGHTS)
    assert listed == {path.name: checksum(path) for path in (first, second, index, clone / MODELS / RELEASED)}

    monkeypatch.setattr(presets.resources, "files", lambda package: clone / "monai_iste")
    assert released_weights("iste_small").name == index.name
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError) as caught:
        released_weights("iste_small")
    assert_teaches(caught.value, second.name, "SHA-256")

    monkeypatch.setattr(scripts.release, "SHARD_BYTES", 15 * 2**20)
    release(tmp_path / "model.pt", "iste_small", clone)
    assert present(clone) == [CHECKSUMS] * 2 + [RELEASED] * 2 + ["iste_small.safetensors"] * 2 + ["model.pt"]
    assert read_checksums(clone / MODELS).keys() == {RELEASED, "iste_small.safetensors"}
    assert released_weights("iste_small").name == "iste_small.safetensors"


def test_what_cannot_be_released(clone, tmp_path):
    torch.save(create_iste("iste_small").state_dict(), tmp_path / "model.pt")
    for kind, words, arguments in (
        (CheckpointError, "tensors that differ", (tmp_path / "model.pt", DEFAULT_PRESET, clone)),
        (CheckpointError, "missing.pt", (tmp_path / "missing.pt", DEFAULT_PRESET, clone)),
        (ConfigError, "'huge'", (tmp_path / "model.pt", "huge", clone)),
        (OutputError, "clone of the repository", (tmp_path / "model.pt", "iste_small", tmp_path)),
    ):
        with pytest.raises(kind) as caught:
            release(*arguments)
        assert_teaches(caught.value, words)
    assert not [path for path in clone.rglob("*") if path.is_file()]


def test_as_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "scripts.release", "missing.pt"], capture_output=True, text=True)
    assert done.returncode == CheckpointError.exit_code
    assert "missing.pt, which does not exist" in done.stderr
    assert "Traceback" not in done.stderr
