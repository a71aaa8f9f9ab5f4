"""Options that commands share: threads, precision, presets and weights; and Ctrl-C as a sentence."""

import pytest
import torch
from commands import assert_refused, files, run

from monai_iste.cli import image_job
from monai_iste.cli.options import Terminated
from monai_iste.errors import CheckpointError, ConfigError


def test_threads():
    before = torch.get_num_threads()
    try:
        assert run("upscale", "a.png", "b.png", "--scale", 2, "--threads", 2).exit_code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert run("upscale", "a.png", "c.png", "--scale", 2, "--threads", 0).exit_code == 2


@pytest.mark.parametrize("supported", [True, False])
def test_a_processor_without_bfloat16_is_pointed_out(supported, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--precision", "bf16")
    assert result.exit_code == 0
    assert ("emulates bfloat16" in result.stderr) != supported


def test_presets_and_weights_that_do_not_fit(weights):
    assert_refused(run("upscale", "a.png", "b.png", "--scale", 2, preset="huge"), ConfigError, "iste_light", "'huge'")
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--preset", "iste", preset=None)
    assert_refused(result, ConfigError, "'iste', which has none", "--allow-untrained")
    result = run("upscale", "a.png", "b.png", "--scale", 2, preset="iste_light", weights=weights)
    assert_refused(result, CheckpointError, "tensors that differ")
    for wrong in ("missing.safetensors", "a.png"):
        assert_refused(run("upscale", "a.png", "b.png", "--scale", 2, weights=wrong), CheckpointError, wrong)


def test_untrained_weights_come_with_a_warning():
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--preset", "iste_small", "--allow-untrained", preset=None)
    assert result.exit_code == 0
    assert "warning: the weights are random" in result.stderr


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    ("kind", "code", "word"), [(KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "terminated")]
)
def test_interrupted(replaced, kind, code, word, monkeypatch):
    def interrupt(*arguments):
        yield torch.zeros(3, 1, 60)
        try:
            raise kind
        finally:
            if replaced:  # as tqdm does while its lock is made
                raise AttributeError("no attribute '_lock'")

    monkeypatch.setattr(image_job.Tiler, "bands", interrupt)
    result = run("upscale", "a.png", "b.png", "--scale", 2)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith(word)
    assert files() == ["a.png"]
