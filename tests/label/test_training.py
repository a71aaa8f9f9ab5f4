"""Training in the MONAI Label app: its settings and its images."""

import pytest
from PIL import Image

from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError
from monai_iste.label.training import DEFAULTS, Training, training_options
from monai_iste.networks import released_weights


def test_training_starts_from_the_released_weights_by_default():
    options = training_options({"model": "iste", "max_epochs": 3, "val_split": 0.2})
    assert options["pretrained"] == released_weights(DEFAULT_PRESET)
    assert options["max_epochs"] == 3
    assert "val_split" not in options
    assert "device" not in options
    options = training_options({"pretrained": False, "device": "cpu"})
    assert "pretrained" not in options
    assert options["device"] == "$torch.device('cpu')"


@pytest.mark.parametrize(
    "request_", [{"max_epochs": 0}, {"batch_size": 2.5}, {"learning_rate": 0}, {"learning_rate": "1e-4"}, {"resume": 1}]
)
def test_refused_training_settings(request_):
    with pytest.raises(ConfigError, match=next(iter(request_))):
        training_options(request_)


def test_training_uses_the_images_that_fit_and_names_the_others(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for name, size in (("a.png", (128, 200)), ("b.png", (200, 127)), ("c.png", (300, 300))):
        Image.new("RGB", size).save(studies / name)
    (studies / "d.png").write_bytes(b"no image")
    said = []
    training = Training(tmp_path / "app" / "iste", said.append)
    for _ in range(2):  # created each time
        training.link_images(sorted(studies.iterdir()))
    assert sorted(path.name for path in training.images.iterdir()) == ["a.png", "c.png"]
    assert [line.split(" (")[0] for line in said[:2]] == ["skipped: b.png", "skipped: d.png"]
    assert not any(str(tmp_path) in line for line in said)
    assert training.scores() == {}


def test_training_without_two_images_is_refused_before_it_begins(tmp_path):
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="at least two images"):
        Training(tmp_path / "app" / "iste").run([tmp_path / "a.png"], DEFAULTS)
    with pytest.raises(DataError, match="images"):
        Training(tmp_path / "app" / "iste").run([], DEFAULTS)
