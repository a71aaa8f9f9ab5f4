import numpy as np
import pytest
import reference
import torch
from reference import SCALES, SIZES, assert_all_learn, assert_close, inexact, random, randomise, weights

from monai_iste.coordinates import Neighbors, cell_size, four_corners, nearest_pixel, output_size, pixel_centers
from monai_iste.networks import LocalPixelDecoder, LocalTextureDecoder


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_pixel_decoder_equals_the_equation(size, scale, layers):
    module = randomise(LocalPixelDecoder(5, 6, layers))
    fused, state = random(2, 5, *size), weights(module)
    output = output_size(size, scale)
    queries = reference.grid(output)[:: 1 + output[0] * output[1] // 40]
    cell = reference.cell_of(size, output)
    coord = inexact(queries).expand(2, -1, -1)
    actual = module(module.features(fused), four_corners(coord, size), cell_size(size, output).expand(2, -1))
    for b, x in enumerate(fused.double().numpy()):
        assert_close(actual[b], [reference.lpd(state, x, query, cell) for query in queries])


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("corners", [1, 4])
def test_texture_decoder_equals_the_equation(corners, layers):
    module = randomise(LocalTextureDecoder(5, 6, layers))
    texture, state = random(2, 7, corners, 5), weights(module)
    share = torch.rand(2, 7, corners, 1, generator=torch.Generator().manual_seed(1))
    share = share / share.sum(2, keepdim=True)
    neighbors = Neighbors(torch.zeros(2, 7, corners).long(), torch.zeros(2, 7, corners, 2), share)
    actual = module(texture, neighbors)
    for b in range(2):
        for q in range(7):
            expected = reference.ltd(state, list(texture[b, q].double().numpy()), share[b, q, :, 0].tolist())
            assert_close(actual[b, q], expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_pixel_decoder_that_blends_features_equals_the_equation(size, scale, layers):
    """MLP'(sum of S_t ReLU(first layer of [feature, offset, cell] at t)), one query and one corner at a time."""
    module = randomise(LocalPixelDecoder(5, 6, layers, blend="features"))
    fused, state = random(2, 5, *size), weights(module)
    output = output_size(size, scale)
    queries = reference.grid(output)[:: 1 + output[0] * output[1] // 40]
    cell = reference.cell_of(size, output)
    actual = module(
        module.features(fused),
        four_corners(inexact(queries).expand(2, -1, -1), size),
        cell_size(size, output).expand(2, -1),
    )
    first = np.concatenate([state["feature_part.weight"][:, :, 0, 0], state["coordinate_part.weight"]], axis=1)
    rest = reference.linear_layers(reference.part(state, "mlp"))
    for b, x in enumerate(fused.double().numpy()):
        for q, query in enumerate(queries):
            blended = np.zeros(6)
            for t in reference.corners(query, size):
                seen = np.concatenate([x[:, t.row, t.col], t.offset, cell])
                blended += t.weight * np.maximum(first @ seen + state["feature_part.bias"], 0)
            assert_close(actual[b, q], reference.perceptron(rest, blended))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_texture_decoder_that_blends_features_equals_the_equation(layers):
    """MLP(sum of S_t F_TL)."""
    module = randomise(LocalTextureDecoder(5, 6, layers, blend="features"))
    texture, rest = random(2, 7, 4, 5), reference.linear_layers(reference.part(weights(module), "mlp"))
    share = torch.rand(2, 7, 4, 1, generator=torch.Generator().manual_seed(1))
    share = share / share.sum(2, keepdim=True)
    neighbors = Neighbors(torch.zeros(2, 7, 4).long(), torch.zeros(2, 7, 4, 2), share)
    actual = module(texture, neighbors)
    for b in range(2):
        for q in range(7):
            blended = sum(share[b, q, t, 0].item() * texture[b, q, t].double().numpy() for t in range(4))
            assert_close(actual[b, q], reference.perceptron(rest, blended))


def test_blending_features_is_another_function_of_the_same_weights():
    colors, features = (LocalPixelDecoder(5, 6, 2, blend) for blend in ("colors", "features"))
    features.load_state_dict(randomise(colors).state_dict())
    coord, cell = pixel_centers((9, 8))[None], torch.ones(1, 2)
    fused = colors.features(random(1, 5, 3, 4))
    corners = four_corners(coord, (3, 4))
    assert (colors(fused, corners, cell) - features(fused, corners, cell)).abs().max() > 1e-3


def test_three_hidden_layers_of_256():
    # The paper's decoders: 260 -> 256 -> 256 -> 256 -> 3 and 256 -> 256 -> 256 -> 256 -> 3.
    pixel = 260 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 3 + 3
    texture = 256 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 3 + 3
    assert sum(p.numel() for p in LocalPixelDecoder().parameters()) == pixel == 199_171
    assert sum(p.numel() for p in LocalTextureDecoder().parameters()) == texture == 198_147


def test_pixel_decoder_sees_offset_before_cell_and_y_before_x():
    # The only way through: channel 0 of the coordinate part, that is dy; then the identity.
    module = LocalPixelDecoder(1, 1, 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.mlp[1].weight.fill_(1.0)
        neighbors = nearest_pixel(pixel_centers((4, 6))[None], (2, 2))  # dy = -+0.5, dx = -+2/3, 0
        for column, expected in enumerate((neighbors.offset[..., 0], neighbors.offset[..., 1])):
            module.coordinate_part.weight.zero_()
            module.coordinate_part.weight[0, column] = 1.0
            result = module(module.features(torch.zeros(1, 1, 2, 2)), neighbors, torch.tensor([[0.3, 0.7]]))
            assert_close(result, expected.clamp(min=0).expand(-1, -1, 3).numpy())
        for column, expected in ((2, 0.3), (3, 0.7)):
            module.coordinate_part.weight.zero_()
            module.coordinate_part.weight[0, column] = 1.0
            result = module(module.features(torch.zeros(1, 1, 2, 2)), neighbors, torch.tensor([[0.3, 0.7]]))
            assert_close(result, np.full((1, 24, 3), expected))


def test_color_is_continuous_across_pixel_borders():
    # The blend by opposite areas leaves no step where the four corners change (position 1, the center of pixel 1).
    module = randomise(LocalPixelDecoder(5, 6))
    features = module.features(random(1, 5, 4, 4)).detach()
    center = 2 * 1.5 / 4 - 1
    coord = torch.tensor([[[center - 1e-3, 0.1], [center + 1e-3, 0.1]]])
    left, right = module(features, four_corners(coord, (4, 4)), torch.ones(1, 2))[0]
    assert (left - right).abs().max() < 0.05


def test_cell_per_query_equals_cell_per_image():
    module = randomise(LocalPixelDecoder(5, 6))
    features = module.features(random(2, 5, 3, 4))
    neighbors = four_corners(pixel_centers((6, 9)).expand(2, -1, -1), (3, 4))
    cell = torch.tensor([[1.0, 0.8], [0.5, 0.6]])
    expected = module(features, neighbors, cell).detach()
    assert_close(module(features, neighbors, cell.unsqueeze(1).expand(2, 54, 2)), expected)


def test_gradients_reach_every_parameter_and_the_features():
    pixel, texture = randomise(LocalPixelDecoder(5, 6)), randomise(LocalTextureDecoder(5, 6))
    fused, textures = random(1, 5, 3, 4).requires_grad_(), random(1, 48, 4, 5).requires_grad_()
    neighbors = four_corners(pixel_centers((6, 8))[None], (3, 4))
    result = pixel(pixel.features(fused), neighbors, torch.ones(1, 2)) + texture(textures, neighbors)
    result.square().sum().backward()
    assert_all_learn(pixel, texture)
    assert (fused.grad.abs().sum(1) > 0).all()
    assert textures.grad.abs().sum() > 0
