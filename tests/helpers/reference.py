"""The slow, literal version of every equation: what the fast code must equal.

Explicit loops over batch, pixels, tokens, corners and keys, in float64 NumPy; positions are exact fractions. It reads
the modules' weights by name and shares no computation with the package.

A *query* is a pair of fractions (y, x) in [-1, 1]. Feature maps are (C, h, w), cells are (2,) in half pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SIZES = [(1, 1), (1, 5), (3, 2), (7, 5), (9, 16)]
SCALES = [1, 1.3, 2.5, 3.7]

Array = np.ndarray
State = dict[str, Array]
Query = tuple[Fraction, Fraction]
Size = tuple[int, int]


# --- tests' helpers ---------------------------------------------------------------------------------------------------


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random and large enough to be seen in the result, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            std = parameter.shape[1:].numel() ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return module


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(actual: Tensor, expected: Array | Sequence, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(actual.detach().double().numpy(), np.asarray(expected), rtol=1e-5, atol=atol)


def assert_all_learn(*modules: nn.Module) -> None:
    """After ``backward``: every parameter has a gradient, finite and not zero."""
    for module in modules:
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, f"the gradient of {name} is zero"


def assert_teaches(error: BaseException, *words: str) -> None:
    """The message says what was expected, what came and what to do, and contains ``words``."""
    message = str(error)
    head, separator, tail = message.partition(", got ")
    assert head.startswith("Expected "), message
    assert separator, f"does not say what came: {message}"
    assert tail.endswith("."), f"no remedy: {message}"
    assert " " in tail, f"no remedy: {message}"
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"


class LargestTensor(TorchFunctionMode):
    """Inside ``with``: how many numbers the largest tensor holds that any operation returns."""

    elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.untyped_storage().nbytes() // value.element_size())
        return result


def weights(module: nn.Module) -> State:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def part(state: State, prefix: str) -> State:
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(prefix + ".")}


# --- coordinates ------------------------------------------------------------------------------------------------------


def output_size(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def centre(pixel: int, n: int) -> Fraction:
    """Where pixel ``pixel`` of ``n`` lies in [-1, 1]."""
    return Fraction(2 * pixel + 1, n) - 1


def grid(size: Size) -> list[Query]:
    return [(centre(i, size[0]), centre(j, size[1])) for i in range(size[0]) for j in range(size[1])]


def exact(coord: Tensor) -> list[Query]:
    """The queries that a (Q, 2) tensor of float32 numbers really holds."""
    return [(Fraction(y), Fraction(x)) for y, x in coord.tolist()]


def inexact(queries: Sequence[Query]) -> Tensor:
    return torch.tensor([[float(y), float(x)] for y, x in queries], dtype=torch.float32)


def position(c: Fraction, n: int) -> Fraction:
    """In pixels, 0 at the centre of the first."""
    return ((c + 1) * n - 1) / 2


def cell_of(size: Size, output: Size) -> Array:
    """2 / m per axis, with the effective scale m = H / h."""
    return np.array([2 / (output[0] / size[0]), 2 / (output[1] / size[1])])


class Answer(NamedTuple):
    """A pixel that answers a query: where it is read, the query's offset from it, and its share."""

    row: int
    col: int
    offset: Array
    weight: float


def _answer(query: Query, pixel: tuple[int, int], size: Size, weight: float) -> Answer:
    """The index is clamped to the image, the offset (x_q - u_t) * h is taken from the pixel before clamping."""
    offset = [float((query[k] - centre(pixel[k], size[k])) * size[k]) for k in range(2)]
    row, col = (min(max(pixel[k], 0), size[k] - 1) for k in range(2))
    return Answer(row, col, np.array(offset), weight)


def nearest(query: Query, size: Size) -> list[Answer]:
    pixel = [math.floor(position(query[k], size[k]) + Fraction(1, 2)) for k in range(2)]
    return [_answer(query, (pixel[0], pixel[1]), size, 1.0)]


def corners(query: Query, size: Size) -> list[Answer]:
    """Four corners; as in LIIF, each is weighted by the area between the query and the diagonally opposite corner."""
    y, x = (math.floor(position(query[k], size[k])) for k in range(2))
    answers = [_answer(query, pixel, size, 0.0) for pixel in ((y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1))]
    areas = [abs(answer.offset[0] * answer.offset[1]) for answer in answers]
    areas[0], areas[3] = areas[3], areas[0]
    areas[1], areas[2] = areas[2], areas[1]
    return [answer._replace(weight=area / sum(areas)) for answer, area in zip(answers, areas, strict=True)]


def lattice_offset(row: int, col: int) -> Array:
    """The R2 sequence over blocks of 8x8 pixels, (y, x) in half pixels."""
    low, high = 1.0, 2.0  # the root of x^3 = x + 1 by bisection
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle**3 < middle + 1 else (low, middle)
    k = 8 * (row % 8) + col % 8 + 1
    return np.array([2 * ((0.5 + k / low) % 1) - 1, 2 * ((0.5 + k / low / low) % 1) - 1])


def bicubic(image: Array, query: Query) -> Array:
    """Sixteen pixels under Keys' kernel with a = -0.75, borders replicated."""
    _, h, w = image.shape
    y, x = float(position(query[0], h)), float(position(query[1], w))
    colour = np.zeros(image.shape[0])
    for row in range(math.floor(y) - 1, math.floor(y) + 3):
        for col in range(math.floor(x) - 1, math.floor(x) + 3):
            pixel = image[:, min(max(row, 0), h - 1), min(max(col, 0), w - 1)]
            colour += _cubic(y - row) * _cubic(x - col) * pixel
    return colour


def _cubic(t: float, a: float = -0.75) -> float:
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


# --- layers -----------------------------------------------------------------------------------------------------------


def convolution(state: State, x: Array, border: str) -> Array:
    weight, bias = state["weight"], state["bias"]
    _, h, w = x.shape
    k = weight.shape[2]
    out = np.zeros((weight.shape[0], h, w))
    for row in range(h):
        for col in range(w):
            out[:, row, col] = bias
            for dy in range(k):
                for dx in range(k):
                    y, z = row + dy - k // 2, col + dx - k // 2
                    if border == "zero" and not (0 <= y < h and 0 <= z < w):
                        continue
                    out[:, row, col] += weight[:, :, dy, dx] @ x[:, min(max(y, 0), h - 1), min(max(z, 0), w - 1)]
    return out


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return [power / sum(powers) for power in powers]


def perceptron(layers: Sequence[tuple[Array, Array]], x: Array) -> Array:
    """Linear layers with ReLU between them."""
    for i, (weight, bias) in enumerate(layers):
        x = weight @ x + bias
        x = np.maximum(x, 0) if i < len(layers) - 1 else x
    return x


def linear_layers(state: State) -> list[tuple[Array, Array]]:
    """The linear layers of a Sequential, in order."""
    numbers = sorted({int(name.split(".")[0]) for name in state})
    return [(state[f"{number}.weight"], state[f"{number}.bias"]) for number in numbers]


def layer_norm(state: State, x: Array) -> Array:
    out = np.zeros_like(x)
    for row in range(x.shape[1]):
        for col in range(x.shape[2]):
            v = x[:, row, col]
            out[:, row, col] = (v - v.mean()) / math.sqrt(v.var() + 1e-5) * state["weight"] + state["bias"]
    return out


# --- encoders ---------------------------------------------------------------------------------------------------------


def edsr(state: State, image: Array) -> Array:
    shallow = convolution(part(state, "head"), image, "zero")
    closing = max(int(name.split(".")[1]) for name in state if name.startswith("body."))
    x = shallow
    for i in range(closing):
        y = convolution(part(state, f"body.{i}.0"), x, "zero")
        x = x + convolution(part(state, f"body.{i}.2"), np.maximum(y, 0), "zero")
    return shallow + convolution(part(state, f"body.{closing}"), x, "zero")


def conditioned_edsr(state: State, image: Array, blur: float | None) -> Array:
    """EDSR whose blocks are scaled and shifted by two numbers per channel, which an MLP makes of the blur."""
    told = np.array([0.0, 0.0] if blur is None else [2 * blur, 1.0])
    hidden = np.maximum(state["modulation.0.weight"] @ told + state["modulation.0.bias"], 0)
    numbers = state["modulation.2.weight"] @ hidden + state["modulation.2.bias"]
    shallow = convolution(part(state, "head"), image, "zero")
    x, c = shallow, len(shallow)
    for i in range(len(numbers) // (2 * c)):
        y = np.maximum(convolution(part(state, f"blocks.{i}.first"), x, "zero"), 0)
        for channel in range(c):
            y[channel] = y[channel] * (1 + numbers[2 * i * c + channel]) + numbers[(2 * i + 1) * c + channel]
        x = x + convolution(part(state, f"blocks.{i}.second"), y, "zero")
    return shallow + convolution(part(state, "tail"), x, "zero")


def window_attention(state: State, x: Array, window: int, heads: int, shift: int) -> Array:
    """Pixel by pixel: what shares its window and was as near before the map was rolled, is attended to."""
    c, h, w = x.shape
    d = c // heads
    out = np.zeros_like(x)
    for row in range(h):  # positions in the rolled map
        for col in range(w):
            y, z = (row + shift) % h, (col + shift) % w  # where that pixel comes from
            qkv = state["qkv.weight"] @ x[:, y, z] + state["qkv.bias"]
            result = np.zeros(c)
            for head in range(heads):
                channels = slice(head * d, (head + 1) * d)
                logits, values = [], []
                for row2 in range(row // window * window, row // window * window + window):
                    for col2 in range(col // window * window, col // window * window + window):
                        y2, z2 = (row2 + shift) % h, (col2 + shift) % w
                        if (y2 - y, z2 - z) != (row2 - row, col2 - col):
                            continue  # the roll brought them together
                        other = state["qkv.weight"][c:] @ x[:, y2, z2] + state["qkv.bias"][c:]
                        number = (row - row2 + window - 1) * (2 * window - 1) + col - col2 + window - 1
                        logits.append(qkv[:c][channels] @ other[:c][channels] / d**0.5 + state["bias"][number, head])
                        values.append(other[c:][channels])
                for share, value in zip(softmax(logits), values, strict=True):
                    result[channels] += share * value
            out[:, y, z] = state["out.weight"] @ result + state["out.bias"]
    return out


def swinir(state: State, image: Array, window: int, heads: int) -> Array:
    _, h, w = image.shape
    rows, cols = math.ceil(h / window) * window, math.ceil(w / window) * window
    padded = np.zeros((3, rows, cols))
    for row in range(rows):
        for col in range(cols):
            padded[:, row, col] = image[:, min(row, h - 1), min(col, w - 1)]
    shallow = convolution(part(state, "shallow"), padded, "zero")
    x = layer_norm(part(state, "norm_in"), shallow)
    group = 0
    while f"groups.{group}.conv.weight" in state:
        y, layer = x, 0
        while f"groups.{group}.layers.{layer}.norm1.weight" in state:
            own = part(state, f"groups.{group}.layers.{layer}")
            shift = window // 2 if layer % 2 else 0
            y = y + window_attention(part(own, "attention"), layer_norm(part(own, "norm1"), y), window, heads, shift)
            hidden = layer_norm(part(own, "norm2"), y)
            for row in range(rows):
                for col in range(cols):
                    v = own["mlp.linear1.weight"] @ hidden[:, row, col] + own["mlp.linear1.bias"]
                    v = np.array([0.5 * t * (1 + math.erf(t / math.sqrt(2))) for t in v])
                    y[:, row, col] += own["mlp.linear2.weight"] @ v + own["mlp.linear2.bias"]
            layer += 1
        x = x + convolution(part(state, f"groups.{group}.conv"), y, "zero")
        group += 1
    deep = convolution(part(state, "closing"), layer_norm(part(state, "norm_out"), x), "zero")
    out = convolution(part(state, "out.0"), shallow + deep, "zero")
    return np.where(out > 0, out, 0.01 * out)[:, :h, :w]


# --- the paper's equations --------------------------------------------------------------------------------------------


def lfi(state: State, feat: Array, heads: int) -> Array:
    """Eq. (2): ten tokens of input features, each with its own query, key and value; the pixel's query counts."""
    c, h, w = feat.shape
    d = c // heads
    weight, bias = state["qkv.weight"][:, :, 0, 0], state["qkv.bias"]
    out = np.zeros_like(feat)
    for row in range(h):
        for col in range(w):
            window = []
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    window.append(feat[:, min(max(row + dy, 0), h - 1), min(max(col + dx, 0), w - 1)])
            tokens = [window[4], sum(window) / 9, *window[:4], *window[5:]]
            assert len(tokens) == 10
            projected = [weight @ token + bias for token in tokens]
            for head in range(heads):
                channels = slice(head * d, (head + 1) * d)
                q = [p[:c][channels] for p in projected]
                k = [p[c : 2 * c][channels] for p in projected]
                v = [p[2 * c :][channels] for p in projected]
                for share, value in zip(softmax([q[0] @ key / math.sqrt(d) for key in k]), v, strict=True):
                    out[channels, row, col] += share * value
    return out


def query_projection(state: State, feat: Array) -> Array:
    """F_LFI -> F_LFIC."""
    return convolution(part(state, "projection"), feat, "replicate")


def texture(state: State, waves: Array, answer: Answer, cell: Array) -> Array:
    """Eq. (3): A sin(<f, offset> + 2 pi sigmoid(Linear(cell)))."""
    here = waves[:, answer.row, answer.col]
    if "phase.weight" not in state:  # the ablation: a convolution only
        return here
    t = len(here) // 3
    out = np.zeros(t)
    for i in range(t):
        linear = state["phase.weight"][i] @ cell + state["phase.bias"][i]
        phase = 2 * math.pi / (1 + math.exp(-linear))
        frequency = here[t + i] * answer.offset[0] + here[2 * t + i] * answer.offset[1]
        out[i] = here[i] * math.sin(frequency + phase)
    return out


def lattice_keys(state: State, waves: Array, cell: Array) -> list[Array]:
    _, h, w = waves.shape
    return [
        texture(state, waves, Answer(row, col, lattice_offset(row, col), 1.0), cell)
        for row in range(h)
        for col in range(w)
    ]


def grid_keys(state: State, waves: Array, queries: Sequence[Query], cell: Array) -> list[Array]:
    size = waves.shape[1:]
    return [texture(state, waves, nearest(query, size)[0], cell) for query in queries]


def similarity(queries: Sequence[Array], keys: Sequence[Array]) -> Array:
    """The full matrix of Eq. (4)."""
    matrix = np.zeros((len(queries), len(keys)))
    lengths = [math.sqrt(key @ key) for key in keys]
    for n, q in enumerate(queries):
        length = math.sqrt(q @ q)
        for k, key in enumerate(keys):
            matrix[n, k] = q @ key / max(length * lengths[k], 1e-12)
    return matrix


def stf(state: State, query: Array, keys: Sequence[Array]) -> Array:
    """Eq. (4)-(5): hard argmax A, soft confidence S, query + MLP(concat(query, A)) S."""
    _c, h, w = query.shape
    pixels = [query[:, row, col] for row in range(h) for col in range(w)]
    matrix = similarity(pixels, keys)
    layers = linear_layers(part(state, "mlp"))
    fused = np.zeros_like(query)
    for n, q in enumerate(pixels):
        best = int(matrix[n].argmax())
        aggregated = perceptron(layers, np.concatenate([q, keys[best]]))
        fused[:, n // w, n % w] = q + aggregated * matrix[n].max()
    return fused


def lpd(state: State, fused: Array, query: Query, cell: Array) -> Array:
    """Eq. (6): sum over four corners of S_t MLP([feature, offset, cell]), the first layer in one piece."""
    first = np.concatenate([state["feature_part.weight"][:, :, 0, 0], state["coordinate_part.weight"]], axis=1)
    layers = [(first, state["feature_part.bias"]), *linear_layers(part(state, "mlp"))]
    rgb = np.zeros(3)
    for t in corners(query, fused.shape[1:]):
        rgb += t.weight * perceptron(layers, np.concatenate([fused[:, t.row, t.col], t.offset, cell]))
    return rgb


def ltd(state: State, textures: Sequence[Array], shares: Sequence[float]) -> Array:
    """Eq. (7): sum of S_t MLP(F_TL)."""
    layers = linear_layers(part(state, "mlp"))
    return sum((s * perceptron(layers, f) for s, f in zip(shares, textures, strict=True)), np.zeros(3))


def contrast(image: Array, row: int, col: int) -> float:
    """v / (v + one 8-bit level squared), v the mean squared difference to the eight neighbours; image in [-1, 1]."""
    _, h, w = image.shape
    v = 0.0
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        near = image[:, min(max(row + dy, 0), h - 1), min(max(col + dx, 0), w - 1)]
        v += float(np.mean((near - image[:, row, col]) ** 2)) / 8
    return v / (v + (2 / 255) ** 2)


def iste(
    net: nn.Module,
    image: Array,
    queries: Sequence[Query],
    cell: Array,
    *,
    encoder: Callable[[State, Array], Array],
    heads: int,
    four: bool = False,
    keys: Sequence[Query] | None = None,
    residual: bool = False,
) -> list[Array]:
    """Figure 2 for one image (3, h, w) in [0, 1]; ``keys`` None: one per pixel, at the lattice."""
    state = weights(net)
    size = image.shape[1:]
    image = (image - 0.5) / 0.5
    feat = encoder(part(state, "encoder"), image)
    interactor, learner = part(state, "local_feature_interactor"), part(state, "texture_learner")
    query = query_projection(interactor, lfi(interactor, feat, heads) if "qkv.weight" in interactor else feat)
    waves = convolution(part(learner, "conv"), feat, "replicate")
    fusion = part(state, "self_texture_fusion")
    if fusion:
        table = lattice_keys(learner, waves, cell) if keys is None else grid_keys(learner, waves, keys, cell)
        query = stf(fusion, query, table)
    decoder, result = part(state, "local_texture_decoder"), []
    for q in queries:
        rgb = lpd(part(state, "local_pixel_decoder"), query, q, cell)
        if decoder:
            answers = corners(q, size) if four else nearest(q, size)
            textures = [texture(learner, waves, answer, cell) for answer in answers]
            rgb = rgb + ltd(decoder, textures, [answer.weight for answer in answers])  # Eq. (8)
        if residual:
            share = sum(t.weight * contrast(image, t.row, t.col) for t in corners(q, size))
            rgb = rgb * share + bicubic(image, q)
        result.append(rgb * 0.5 + 0.5)
    return result
