import math

import pytest
import reference
import torch
import torch.nn.functional as F
from reference import SIZES, assert_all_learn, assert_close, assert_teaches, random, randomise, weights

from monai_iste.errors import ConfigError
from monai_iste.networks import BlurConditionedEncoder, EDSREncoder, SwinIREncoder
from monai_iste.networks.encoders import swinir


def small_swinir(depths=(2, 1), heads=2, window=4, seed=0, **changes):
    encoder = SwinIREncoder(5, dim=8, depths=depths, heads=heads, window=window, **changes)
    return randomise(encoder, seed).eval()


def convolution(inputs, outputs, kernel=3):
    return inputs * outputs * kernel * kernel + outputs


# --- EDSR -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_edsr_equals_its_definition(size, blocks):
    encoder = randomise(EDSREncoder(5, blocks))
    image = random(2, 3, *size)
    state = weights(encoder)
    assert encoder(image).shape == (2, 5, *size)
    assert_close(encoder(image), [reference.edsr(state, x) for x in image.double().numpy()])


def test_edsr_baseline_has_its_published_size():
    # Head, 16 blocks of two convolutions, closing convolution.
    count = sum(p.numel() for p in EDSREncoder().parameters())
    assert count == convolution(3, 64) + 33 * convolution(64, 64) == 1_220_416
    assert EDSREncoder().out_channels == 64


# --- EDSR that is told the blur ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_the_conditioned_encoder_equals_its_definition(size, blocks):
    encoder = randomise(BlurConditionedEncoder(5, blocks, hidden_channels=7))
    image, state = random(3, 3, *size), weights(encoder)
    blurs = [0.3, None, 0.0]
    told = encoder(image, torch.tensor([math.nan if blur is None else blur for blur in blurs]))
    expected = [
        reference.conditioned_edsr(state, x, blur) for x, blur in zip(image.double().numpy(), blurs, strict=True)
    ]
    assert told.shape == (3, 5, *size)
    assert_close(told, expected)
    assert_close(encoder(image)[1], expected[1])
    assert (encoder(image)[2] - told[2]).abs().max() > 1e-3  # an unknown blur is not a blur of 0


def test_a_new_conditioned_encoder_does_not_listen():
    encoder, image = BlurConditionedEncoder(8, 2), random(1, 3, 6, 7)
    assert torch.equal(encoder(image), encoder(image, torch.tensor([0.4])))
    loss = encoder(image, torch.tensor([0.4])).square().mean()
    loss.backward()
    assert encoder.modulation[2].weight.grad.abs().max() > 0  # but it learns to
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_an_unknown_blur_leaves_finite_gradients():
    encoder = randomise(BlurConditionedEncoder(8, 2))
    encoder(random(2, 3, 6, 7), torch.tensor([math.nan, 0.2])).square().mean().backward()
    assert_all_learn(encoder)


# --- SwinIR -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_swinir_equals_its_definition(size, batch, heads):
    encoder = small_swinir(heads=heads)
    image = random(batch, 3, *size, seed=batch)
    state = weights(encoder)
    assert encoder(image).shape == (batch, 5, *size)
    assert_close(encoder(image), [reference.swinir(state, x, 4, heads) for x in image.double().numpy()])


@pytest.mark.parametrize(("window", "size"), [(8, (8, 8)), (8, (9, 7)), (5, (11, 5)), (2, (5, 6))])
def test_swinir_windows_of_other_sizes(window, size):
    encoder = small_swinir((2,), window=window)
    image = random(1, 3, *size)
    assert_close(encoder(image)[0], reference.swinir(weights(encoder), image[0].double().numpy(), window, 2))


def test_swinir_keeps_apart_what_only_the_roll_brought_together():
    # Windows of 4; of the two layers only the shifted one does anything, and no convolution mixes neighbors.
    group = randomise(swinir._SwinGroup(8, 2, 4, 2.0, [0.0, 0.0]))
    with torch.no_grad():
        for idle in (group.layers[0].attention.out, group.layers[0].mlp.linear2, group.conv):
            idle.weight.zero_()
            idle.bias.zero_()
        group.conv.weight[:, :, 1, 1] = torch.eye(8)
    x = random(1, 8, 12, 8).requires_grad_()

    def seen_from(row, col):
        x.grad = None
        group(x, *swinir._shift((8, 12), 4, x.device))[0, row, col].sum().backward()
        return {(i, j) for i, j in (x.grad[0].abs().sum(-1) > 1e-9).nonzero().tolist()}

    # The top left corner sees its own quarter window, never the last rows that the roll puts beside it.
    assert seen_from(0, 0) == {(i, j) for i in range(2) for j in range(2)}
    # In the middle a shifted window is whole: rows 2 to 5, columns 6 to 9.
    assert seen_from(3, 7) == {(i, j) for i in range(2, 6) for j in range(6, 10)}
    # At the right border it is cut: columns 10 and 11.
    assert seen_from(4, 11) == {(i, j) for i in range(2, 6) for j in range(10, 12)}


def test_shift_mask_by_hand():
    # 4x2 pixels, windows of 2, shift 1: rows 0, 1 of the rolled map were rows 1, 2; rows 2, 3 were rows 3 and 0.
    # Columns 0, 1 were columns 1 and 0: never neighbors. Pixels of a window in order (0,0), (0,1), (1,0), (1,1).
    mask, shifted, back = swinir._shift((4, 2), 2, torch.device("cpu"))
    columns_apart = [[0, -100, 0, -100], [-100, 0, -100, 0], [0, -100, 0, -100], [-100, 0, -100, 0]]
    all_apart = [[0 if i == j else -100 for i in range(4)] for j in range(4)]
    assert mask.tolist() == [columns_apart, all_apart]
    # Plain windows hold the pixels 0 1 2 3, 4 5 6 7; shifted ones, row by row of the rolled map, 3 2 5 4, 7 6 1 0.
    assert shifted.tolist() == [3, 2, 5, 4, 7, 6, 1, 0]
    assert shifted[back].tolist() == list(range(8))


def test_swinir_mask_concerns_shifted_layers_only(monkeypatch):
    image = random(1, 3, 8, 8)
    unshifted, shifted = small_swinir((1, 1)), small_swinir((2,))
    before = unshifted(image), shifted(image)
    block = torch.full((4, 16, 16), -100.0) + 100 * torch.eye(16)
    real = swinir._shift
    monkeypatch.setattr(swinir, "_shift", lambda *arguments: (block, *real(*arguments)[1:]))
    assert torch.equal(unshifted(image), before[0])
    assert (shifted(image) - before[1]).abs().max() > 1e-3


def test_swinir_shifts_every_second_layer_by_half_a_window():
    encoder, masked = SwinIREncoder(4, dim=4, depths=(4, 3), heads=1, window=8), []
    for group in encoder.groups:
        for layer in group.layers:
            layer.register_forward_pre_hook(lambda layer, args: masked.append(args[1] is not None))
    encoder(random(1, 3, 8, 8))
    assert masked == [False, True, False, True, False, True, False]


@pytest.mark.parametrize("size", SIZES)
def test_swinir_pads_by_replication_and_crops_back(size):
    encoder = small_swinir()
    image = random(1, 3, *size)
    padded = F.pad(image, (0, -size[1] % 4, 0, -size[0] % 4), mode="replicate")
    assert padded.shape[2] % 4 == padded.shape[3] % 4 == 0
    assert_close(encoder(image), encoder(padded)[:, :, : size[0], : size[1]].detach().numpy(), 1e-6)


def test_swinir_does_not_look_beyond_the_image_it_was_given():
    # A batch is a set of images that know nothing of each other.
    encoder = small_swinir()
    images = random(2, 3, 7, 5)
    assert_close(encoder(images)[1:], encoder(images[1:]).detach().numpy(), 1e-6)


def test_swinir_drops_paths_in_training_only_and_deeper_layers_more():
    encoder = SwinIREncoder(4, dim=4, depths=(2, 3), heads=1, drop_path=0.4)
    rates = [layer.drop_path.drop_prob for group in encoder.groups for layer in group.layers]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    randomise(encoder)
    image = random(1, 3, 8, 8)
    torch.manual_seed(0)
    assert len({encoder(image).sum().item() for _ in range(10)}) > 1
    encoder.eval()
    assert len({encoder(image).sum().item() for _ in range(3)}) == 1


@pytest.mark.parametrize("encoder", [lambda: EDSREncoder(5, 2), lambda: small_swinir(drop_path=0.0)])
def test_gradients_reach_every_parameter(encoder):
    encoder = randomise(encoder()).train()
    encoder(random(2, 3, 7, 5)).square().sum().backward()
    assert_all_learn(encoder)


def test_swinir_has_its_published_size():
    # Width 180, 6 groups of 6 layers, windows of 8, 6 heads, MLP 360: SwinIR-M without its upsampler, then 180 -> 64.
    attention = (180 * 540 + 540) + (180 * 180 + 180) + 15 * 15 * 6
    mlp = (180 * 360 + 360) + (360 * 180 + 180)
    layer = attention + mlp + 2 * (2 * 180)
    group = 6 * layer + convolution(180, 180)
    body = convolution(3, 180) + 2 * (2 * 180) + 6 * group + convolution(180, 180)
    expected = body + convolution(180, 64)
    encoder = SwinIREncoder()
    assert sum(p.numel() for p in encoder.parameters()) == expected == 11_603_044
    assert (encoder.out_channels, encoder.window, len(encoder.groups)) == (64, 8, 6)
    assert encoder.groups[-1].layers[-1].drop_path.drop_prob == pytest.approx(0.1)
    assert math.prod(encoder.groups[0].layers[0].attention.bias.shape) == 225 * 6


@pytest.mark.parametrize("heads", [0, 3, 5])
def test_swinir_refuses_heads(heads):
    with pytest.raises(ConfigError) as caught:
        SwinIREncoder(4, dim=8, depths=(1,), heads=heads)
    assert_teaches(caught.value, "heads that divides 8", str(heads))
