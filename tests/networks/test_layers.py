"""The linear layer equals PyTorch's with either library, and falls back to PyTorch for other cases."""

import copy
import io

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from reference import assert_close, randomise
from torch import nn

from monai_iste.networks import ISTE, LIIF, LTE, EDSREncoder, SwinIREncoder, layers, tuning
from monai_iste.networks.layers import Linear

ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
only_with_onednn = pytest.mark.skipif(not ONEDNN, reason="a processor on which PyTorch multiplies by itself")

SHAPES = {"one row": (7,), "rows": (5, 7), "no rows": (0, 7), "windows": (2, 3, 4, 7), "one": (1, 1, 7)}
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    "strided": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "expanded": lambda x: x[..., :1].expand_as(x),
}


@pytest.fixture
def products(monkeypatch):
    """Every layer uses oneDNN's product, at any size; returns the list of the requested shapes."""
    monkeypatch.setattr(layers, "_WORTH_A_CALL", 0)
    asked, apply = [], layers._Product.apply

    class Counted(layers._Product):
        @staticmethod
        def apply(x, weight, bias):
            asked.append(tuple(x.shape))
            return apply(x, weight, bias)

    monkeypatch.setattr(layers, "_Product", Counted)
    return asked


def layer(bias=True, seed=0):
    torch.manual_seed(seed)
    return Linear(7, 6, bias=bias)


def assert_same(ours, theirs, tolerance):
    """Tensors that differ by at most a fraction of their largest number."""
    for found, expected in zip(ours, theirs, strict=True):
        assert float((found - expected).abs().max()) <= tolerance * (1e-3 + float(expected.abs().max()))


def numbers(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@only_with_onednn
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values(shape, bias, layout, products):
    net, x = layer(bias), LAYOUTS[layout](numbers(*shape))
    weight = net.weight.detach().double().numpy()
    expected = np.einsum("...i,oi->...o", x.double().numpy(), weight) + (net.bias.detach().numpy() if bias else 0)
    with torch.no_grad():
        result = net(x)
    assert result.is_contiguous()
    assert_close(result, expected, 2e-6)
    assert len(products) == 1


@only_with_onednn
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 7)])
def test_gradients(shape, bias, layout, products):
    net, x, grad = layer(bias), LAYOUTS[layout](numbers(*shape)).detach(), numbers(*shape[:-1], 6, seed=2)
    plain = nn.Linear(7, 6, bias=bias)
    plain.load_state_dict(net.state_dict())
    ours, theirs = (_gradients(module, x, grad) for module in (net, plain))
    assert_same(ours, theirs, 2e-6)
    assert products


def _gradients(module, x, grad):
    """First and second: of the sum of squares of the first, as in a gradient penalty."""
    x = x.clone().requires_grad_()
    wanted = [x, *module.parameters()]
    first = torch.autograd.grad((module(x).square() * grad).sum(), wanted, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), wanted)
    return [g.detach() for g in (*first, *second)]


@only_with_onednn
def test_gradient_of_a_sum_which_has_no_memory_of_its_own(products):
    net, x = layer(), numbers(5, 7).requires_grad_()
    net(x).sum().backward()
    assert_close(x.grad, net.weight.detach().sum(0).expand(5, 7).numpy(), 2e-6)
    assert_close(net.bias.grad, np.full(6, 5.0), 0)


@only_with_onednn
@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_frozen_parts_have_no_gradient(frozen, products):
    net, x = layer(), numbers(5, 7).requires_grad_()
    parts = {"x": x, "weight": net.weight, "bias": net.bias}
    parts[frozen].requires_grad_(False)
    net(x).sum().backward()
    assert [name for name, part in parts.items() if part.grad is None] == [frozen]


@only_with_onednn
@pytest.mark.parametrize(
    "network",
    [
        lambda: ISTE(EDSREncoder(4, 1), texture_channels=5, hidden_channels=6),
        lambda: ISTE(SwinIREncoder(4, dim=12, depths=(2, 2), heads=2), texture_channels=5, hidden_channels=6),
        lambda: LIIF(EDSREncoder(4, 1), hidden_channels=6),
        lambda: LTE(EDSREncoder(4, 1), hidden_channels=6),
    ],
    ids=["ISTE", "SwinIR", "LIIF", "LTE"],
)
@pytest.mark.parametrize("training", [False, True])
def test_networks(network, training, products, monkeypatch):
    net = randomise(network()).train(training)
    image, coord, cell = torch.rand(2, 3, 8, 9), torch.rand(2, 11, 2) * 2 - 1, torch.full((2, 2), 0.6)

    def result():
        torch.manual_seed(0)  # of SwinIR's stochastic depth
        net.zero_grad()
        rgb = net(image, coord=coord, cell=cell)
        rgb.square().sum().backward()
        return [rgb.detach()] + [p.grad.clone() for p in net.parameters() if p.grad is not None]

    ours = result()
    assert len(products) > 2
    products.clear()
    monkeypatch.setattr(tuning, "FAST_PATHS", False)
    theirs = result()
    assert not products
    assert_same(ours, theirs, 1e-5)


LEFT_TO_PYTORCH = {
    "double precision": lambda net: net.double()(torch.zeros(5, 7).double()),
    "a MetaTensor": lambda net: net(MetaTensor(torch.zeros(5, 7))),
    "autocast": lambda net: torch.autocast("cpu", torch.bfloat16)(net)(torch.zeros(5, 7)),
    "the meta device": lambda net: net.to("meta")(torch.zeros(5, 7, device="meta")),
    "TorchScript": lambda net: torch.jit.script(net)(torch.zeros(5, 7)),
    "tracing": lambda net: torch.jit.trace(net, torch.zeros(5, 7), check_trace=False)(torch.zeros(5, 7)),
    "vmap": lambda net: torch.func.vmap(net)(torch.zeros(5, 7)),
    "torch.export": lambda net: torch.export.export(net, (torch.zeros(5, 7),)).module()(torch.zeros(5, 7)),
}


@pytest.mark.parametrize("call", LEFT_TO_PYTORCH.values(), ids=LEFT_TO_PYTORCH)
def test_left_to_pytorch(call, products):
    assert call(layer()).shape == (5, 6)
    assert not products


@only_with_onednn
def test_switched_off_with_onednn(products):
    with torch.backends.mkldnn.flags(enabled=False):
        layer()(torch.zeros(5, 7))
    assert not products


@only_with_onednn
def test_small_products_are_left_to_pytorch(monkeypatch, products):
    monkeypatch.setattr(layers, "_WORTH_A_CALL", 5 * 7 * 6 + 1)
    layer()(torch.zeros(5, 7))
    assert not products
    layer()(torch.zeros(6, 7))
    assert products == [(6, 7)]


def test_refuses_another_width_as_pytorch_does(products):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer()(torch.zeros(5, 14))


def test_is_an_instance_of_pytorchs_layer():
    net, plain = layer(), nn.Linear(7, 6)
    assert isinstance(net, nn.Linear)
    plain.load_state_dict(net.state_dict())  # same names and shapes
    file = io.BytesIO()
    torch.save(copy.deepcopy(net), file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False).weight, plain.weight)
