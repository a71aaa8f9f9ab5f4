"""The range that weights learned, and the sentence for an input outside of it."""

import pytest

from monai_iste.networks import PRESETS, released_weights
from monai_iste.networks.learned_range import InputTraits, LearnedRange
from monai_iste.networks.presets import learned_range

LEARNED = LearnedRange(mpp=(0.25, 4.0), sharpness=(0.01, 0.3), blockiness=1.4)


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        (InputTraits(), []),
        (InputTraits(0.25, 0.01, 1.0), []),
        (InputTraits(0.2, 0.4, 1.5), []),  # near
        (InputTraits(0.1), ["pixels of 0.1 um (learned: 0.25 to 4)"]),
        (InputTraits(10.0), ["pixels of 10 um"]),
        (InputTraits(sharpness=0.001), ["softer (0.1 % fine detail, learned: 1 to 30 %)"]),
        (InputTraits(sharpness=0.6), ["sharper or noisier (60 % fine detail"]),
        (InputTraits(blockiness=1.7), ["stronger compression (block borders 1.7, learned: up to 1.4)"]),
        (InputTraits(10.0, 0.6, 3.0), ["pixels of 10 um", "sharper or noisier", "stronger compression"]),
    ],
)
def test_departures_are_named(traits, words):
    text = LEARNED.describe_departure(traits)
    assert bool(text) == bool(words)
    assert all(word in text for word in words)


def test_released_weights_have_a_range_and_own_weights_have_none(tmp_path):
    for name, preset in PRESETS.items():
        assert (preset.learned is not None) == (released_weights(name) is not None)
    assert learned_range("iste_light") == PRESETS["iste_light"].learned
    assert learned_range("iste_light", released_weights("iste_light")) == PRESETS["iste_light"].learned
    assert learned_range("iste_light", tmp_path / "own.safetensors") is None
    assert learned_range("iste_small") is None
    assert learned_range("liif_light") is None
