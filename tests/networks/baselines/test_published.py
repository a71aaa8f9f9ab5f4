"""Published weights: the authors' networks, written out with the authors' tensor names, against this library's."""

import math
import os
import pickle
from fractions import Fraction

import pytest
import reference
import safetensors.torch
import torch
import torch.nn.functional as F
from reference import assert_close, assert_teaches

from monai_iste.coordinates import cell_size, output_size, pixel_centers
from monai_iste.errors import CheckpointError, ConfigError
from monai_iste.networks import ISTE, EDSREncoder, SwinIREncoder
from monai_iste.networks.baselines.edsr import EDSR
from monai_iste.networks.baselines.liif import LIIF
from monai_iste.networks.baselines.lte import LTE
from monai_iste.networks.baselines.published import load_published
from monai_iste.networks.baselines.swinir import SwinIR

MEAN = torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.float64).view(3, 1, 1)
SIZE = (8, 16)  # two windows of SwinIR


def image_of(size=SIZE, seed=0):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


# --- their tensors ----------------------------------------------------------------------------------------------------


class Tensors(dict):
    """Random weights by name."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def layer(self, name, *shape):
        """A layer with a bias."""
        self.alone(f"{name}.weight", *shape)
        self[f"{name}.bias"] = torch.randn(shape[0], generator=self.generator) * 0.3

    def alone(self, name, *shape):
        std = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.5
        self[name] = torch.randn(shape, generator=self.generator) * std

    def mean_shifts(self, prefix, span):
        for name, sign in (("sub_mean", -1), ("add_mean", 1)):
            self[f"{prefix}{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
            self[f"{prefix}{name}.bias"] = sign * span * MEAN.flatten().float()

    def edsr(self, prefix="", width=4, blocks=2):
        self.layer(f"{prefix}head.0", width, 3, 3, 3)
        for i in range(blocks):
            self.layer(f"{prefix}body.{i}.body.0", width, width, 3, 3)
            self.layer(f"{prefix}body.{i}.body.2", width, width, 3, 3)
        self.layer(f"{prefix}body.{blocks}", width, width, 3, 3)

    def swinir(self, prefix="", dim=8, depths=(2, 1), heads=2, features=4):
        self.layer(f"{prefix}conv_first", dim, 3, 3, 3)
        for i, depth in enumerate(depths):
            for j in range(depth):
                own = f"{prefix}layers.{i}.residual_group.blocks.{j}"
                if j % 2:
                    self[f"{own}.attn_mask"] = torch.zeros(4, 64, 64)
                self.alone(f"{own}.attn.relative_position_bias_table", 15 * 15, heads)
                self[f"{own}.attn.relative_position_index"] = torch.zeros(64, 64, dtype=torch.long)
                for name, shape in (
                    ("norm1", (dim,)),
                    ("attn.qkv", (3 * dim, dim)),
                    ("attn.proj", (dim, dim)),
                    ("norm2", (dim,)),
                    ("mlp.fc1", (2 * dim, dim)),
                    ("mlp.fc2", (dim, 2 * dim)),
                ):
                    self.layer(f"{own}.{name}", *shape)
            self.layer(f"{prefix}layers.{i}.conv", dim, dim, 3, 3)
        self.layer(f"{prefix}patch_embed.norm", dim)
        self.layer(f"{prefix}norm", dim)
        self.layer(f"{prefix}conv_after_body", dim, dim, 3, 3)
        self.layer(f"{prefix}conv_before_upsample.0", features, dim, 3, 3)

    def head(self, stages, last, scale, width=4):
        for i, factor in enumerate([3] if scale == 3 else [2] * int(math.log2(scale))):
            self.layer(f"{stages}.{2 * i}", factor**2 * width, width, 3, 3)
        self.layer(last, 3, width, 3, 3)

    def mlp(self, widths):
        for i in range(len(widths) - 1):
            self.layer(f"imnet.layers.{2 * i}", widths[i + 1], widths[i])

    def encoder(self, kind):
        if kind == "EDSR":  # whose mean LIIF and LTE keep and do not use
            self.mean_shifts("encoder.", 1)
            self.edsr("encoder.")
        else:
            self.swinir("encoder.")


def edsr_file(scale=2, span=255, **size):
    state = Tensors()
    if span:
        state.mean_shifts("", span)
    state.edsr(**size)
    state.head("tail.0", "tail.1", scale, size.get("width", 4))
    return state


def swinir_file(scale=2, **size):
    state = Tensors()
    state.swinir(**size)
    state.head("upsample", "conv_last", scale)
    return state


def liif_file(encoder, unfolded=9 * 4 + 4):
    state = Tensors()
    state.encoder(encoder)
    state.mlp([unfolded, 6, 6, 6, 6, 3])
    return state


def lte_file(encoder):
    state = Tensors()
    state.encoder(encoder)
    state.layer("coef", 6, 4, 3, 3)
    state.layer("freq", 6, 4, 3, 3)
    state.alone("phase.weight", 3, 2)
    state.mlp([6, 6, 6, 6, 3])
    return state


FILES = {"LIIF": liif_file, "LTE": lte_file}
NETWORKS = {"LIIF": LIIF, "LTE": LTE}


def saved(path, state, packed="model"):
    """A file as the authors write it: SwinIR's "params", LIIF's and LTE's "model", EDSR's alone."""
    state = dict(state)
    if packed == "model":
        name = "lte" if "coef.weight" in state else "liif"
        state = {"model": {"name": name, "args": {"hidden_dim": 6}, "sd": state}, "optimizer": {"sd": {}}, "epoch": 1}
    elif packed:
        state = {packed: state}
    torch.save(state, path)
    return path


def our_encoder(kind):
    return EDSREncoder(4, 2) if kind == "EDSR" else SwinIREncoder(4, dim=8, depths=(2, 1), heads=2)


# --- their networks, in float64 ---------------------------------------------------------------------------------------


def part(state, prefix):
    return {name.removeprefix(prefix): t.double() for name, t in state.items() if name.startswith(prefix)}


def conv(state, name, x):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)


def edsr(state, x):
    x = first = conv(state, "head.0", x)
    blocks = max(int(name.split(".")[1]) for name in state if name.startswith("body."))
    for i in range(blocks):
        x = x + conv(state, f"body.{i}.body.2", conv(state, f"body.{i}.body.0", x).relu())
    return conv(state, f"body.{blocks}", x) + first


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(state, x, shift):
    """x: (h, w, C). Windows of 8 of the rolled map, head by head; tokens see those that were as far before."""
    h, w, c = x.shape
    table = state["attn.relative_position_bias_table"]
    heads = table.shape[1]
    d = c // heads
    where = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1)
    x, where = x.roll((-shift, -shift), (0, 1)), where.roll((-shift, -shift), (0, 1))
    out = torch.zeros_like(x)
    for top in range(0, h, 8):
        for left in range(0, w, 8):
            window = (slice(top, top + 8), slice(left, left + 8))
            tokens, before = x[window].reshape(64, c), where[window].reshape(64, 2)
            now = torch.stack([torch.arange(64) // 8, torch.arange(64) % 8], -1)
            apart = now.unsqueeze(1) - now.unsqueeze(0)
            rolled_together = (before.unsqueeze(1) - before.unsqueeze(0) != apart).any(-1)
            bias = table[(apart[..., 0] + 7) * 15 + apart[..., 1] + 7]
            q, k, v = linear(state, "attn.qkv", tokens).split(c, -1)
            result = []
            for head in range(heads):
                own = slice(head * d, (head + 1) * d)
                logits = q[:, own] @ k[:, own].T / math.sqrt(d) + bias[..., head]
                result.append(logits.masked_fill(rolled_together, -math.inf).softmax(-1) @ v[:, own])
            out[window] = linear(state, "attn.proj", torch.cat(result, -1)).view(8, 8, c)
    return out.roll((shift, shift), (0, 1))


def swinir(state, x):
    first = conv(state, "conv_first", x)
    y = norm(state, "patch_embed.norm", first[0].permute(1, 2, 0))
    i = 0
    while f"layers.{i}.conv.weight" in state:
        z, j = y, 0
        while own := part(state, f"layers.{i}.residual_group.blocks.{j}."):
            z = z + attention(own, norm(own, "norm1", z), 4 if j % 2 else 0)
            z = z + linear(own, "mlp.fc2", F.gelu(linear(own, "mlp.fc1", norm(own, "norm2", z))))
            j += 1
        y = y + conv(state, f"layers.{i}.conv", z.permute(2, 0, 1).unsqueeze(0))[0].permute(1, 2, 0)
        i += 1
    deep = conv(state, "conv_after_body", norm(state, "norm", y).permute(2, 0, 1).unsqueeze(0))
    return F.leaky_relu(conv(state, "conv_before_upsample.0", deep + first), 0.01)


ENCODERS = {"EDSR": edsr, "SwinIR": swinir}


def head(state, stages, last, x):
    for i in sorted({int(name[len(stages) + 1]) for name in state if name.startswith(f"{stages}.")}):
        factor = {4: 2, 9: 3}[state[f"{stages}.{i}.weight"].shape[0] // x.shape[1]]
        x = F.pixel_shuffle(conv(state, f"{stages}.{i}", x), factor)
    return conv(state, last, x)


def whole_edsr(state, image, span=255):
    """On levels from 0 to span, less the mean; image and result in [0, 1]."""
    state = part(state, "")
    x = edsr(state, image.double() * span - span * MEAN)
    return (head(state, "tail.0", "tail.1", x) + span * MEAN) / span


def whole_swinir(state, image):
    state = part(state, "")
    return head(state, "upsample", "conv_last", swinir(state, image.double() - MEAN)) + MEAN


def corners(query, size):
    """The authors' four shifted lookups: (pixel's number, offset in half pixels, weight), in their order."""
    found = []
    for towards_y in (-1, 1):
        for towards_x in (-1, 1):
            pixel, offset = [], []
            for c, towards, n in zip(query, (towards_y, towards_x), size, strict=True):
                position = ((c + Fraction(towards, n)) + 1) * n / 2 - Fraction(1, 2)  # half a pixel away, in pixels
                pixel.append(min(max(math.floor(position + Fraction(1, 2)), 0), n - 1))
                offset.append(float((c - reference.centre(pixel[-1], n)) * n))
            found.append((pixel[0] * size[1] + pixel[1], torch.tensor(offset, dtype=torch.float64)))
    areas = [abs(float(offset[0] * offset[1])) + 1e-9 for _, offset in found][::-1]  # the opposite corner's
    return [(pixel, offset, area / sum(areas)) for (pixel, offset), area in zip(found, areas, strict=True)]


def imnet(state, x):
    numbers = sorted(int(name.split(".")[2]) for name in state if name.startswith("imnet.") and "weight" in name)
    for number in numbers:
        x = linear(state, f"imnet.layers.{number}", x)
        x = x.relu() if number != numbers[-1] else x
    return x


def liif(state, image, feat, query, cell):
    windows = F.unfold(feat, 3, padding=1)[0]
    return sum(
        share * imnet(state, torch.cat([windows[:, pixel], offset, cell]))
        for pixel, offset, share in corners(query, feat.shape[2:])
    )


def lte(state, image, feat, query, cell):
    amplitudes, frequencies = conv(state, "coef", feat)[0].flatten(1), conv(state, "freq", feat)[0].flatten(1)
    rgb = torch.zeros(3, dtype=torch.float64)
    for pixel, offset, share in corners(query, feat.shape[2:]):
        wave = frequencies[:, pixel].view(-1, 2) @ offset + state["phase.weight"] @ cell
        basis = torch.cat([(math.pi * wave).cos(), (math.pi * wave).sin()])
        rgb += share * (imnet(state, amplitudes[:, pixel] * basis) + image[0].flatten(1)[:, pixel])
    return rgb


def asked(state, kind, encoder, image, scale, every):
    """Some pixels of their result, and which."""
    size = tuple(image.shape[2:])
    image = image.double() * 2 - 1
    feat = ENCODERS[encoder](part(state, "encoder."), image)
    output = reference.output_size(size, scale)
    queries = reference.grid(output)[::every]
    cell = torch.from_numpy(reference.cell_of(size, output))
    equation = {"LIIF": liif, "LTE": lte}[kind]
    return queries, [(equation(part(state, ""), image, feat, q, cell) * 0.5 + 0.5).tolist() for q in queries]


# --- equal ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [255, 1, None])  # None: without the shifts, which are then those of DIV2K
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr(tmp_path, scale, span):
    state = edsr_file(scale, span)
    span = span or 255
    state["head.0.weight"] /= span
    state["tail.1.weight"] *= span
    state["tail.1.bias"] *= span
    ours = load_published(EDSR(scale, 4, 2), saved(tmp_path / "edsr.pt", state, None))
    image = image_of((5, 7))
    assert_close(ours(image), whole_edsr(state, image, span).numpy())


@pytest.mark.parametrize("packed", ["params", "params_ema", None])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_swinir(tmp_path, scale, packed):
    state = swinir_file(scale)
    ours = load_published(
        SwinIR(scale, dim=8, depths=(2, 1), heads=2, out_channels=4), saved(tmp_path / "swinir.pth", state, packed)
    )
    assert_close(ours.eval()(image_of()), whole_swinir(state, image_of()).numpy())


def test_the_mean_stays_when_saved_as_our_own(tmp_path):
    ours = load_published(EDSR(2, 4, 2), saved(tmp_path / "edsr.pt", edsr_file(), None))
    safetensors.torch.save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    again = EDSR(2, 4, 2)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "ours.safetensors"))
    assert torch.equal(again(image_of()), ours(image_of()))
    assert_close(again.mean.double(), (2 * MEAN - 1).numpy(), 1e-7)


@pytest.mark.parametrize("scale", [2, 2.5])
@pytest.mark.parametrize("encoder", ["EDSR", "SwinIR"])
@pytest.mark.parametrize("kind", ["LIIF", "LTE"])
def test_implicit(tmp_path, kind, encoder, scale):
    state = FILES[kind](encoder)
    ours = NETWORKS[kind](our_encoder(encoder), hidden_channels=6)
    load_published(ours, saved(tmp_path / "w.pth", state)).eval()
    queries, expected = asked(state, kind, encoder, image_of(), scale, 17)
    cell = cell_size(SIZE, output_size(SIZE, scale)).unsqueeze(0)
    assert_close(ours(image_of(), coord=reference.inexact(queries).unsqueeze(0), cell=cell)[0], expected)


@pytest.mark.parametrize("encoder", ["EDSR", "SwinIR"])
@pytest.mark.parametrize("kind", ["LIIF", "LTE"])
def test_an_encoder_alone_takes_theirs(tmp_path, kind, encoder):
    state = FILES[kind](encoder)
    iste = ISTE(our_encoder(encoder), texture_channels=4, hidden_channels=4).eval()
    path = saved(tmp_path / "w.pth", state)
    assert load_published(iste.encoder, path) is iste.encoder
    image = image_of() * 2 - 1
    expected = ENCODERS[encoder](part(state, "encoder."), image.double())
    assert_close(iste.encoder(image), expected.numpy())


def test_safetensors_by_published_names(tmp_path):
    state = liif_file("EDSR")
    safetensors.torch.save_file(dict(state), tmp_path / "w.safetensors")
    ours = load_published(LIIF(EDSREncoder(4, 2), 6), tmp_path / "w.safetensors")
    packed = load_published(LIIF(EDSREncoder(4, 2), 6), saved(tmp_path / "w.pth", state))
    assert torch.equal(ours(image_of()), packed(image_of()))


@pytest.mark.skipif("LIIF_WEIGHTS" not in os.environ, reason="LIIF_WEIGHTS names no edsr-baseline-liif.pth")
def test_the_published_liif(tmp_path):
    path = os.environ["LIIF_WEIGHTS"]
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]["sd"]
    ours, image = load_published(LIIF(EDSREncoder()), path), image_of((9, 12))
    size, output = (9, 12), output_size((9, 12), 3.7)
    queries, expected = asked(state, "LIIF", "EDSR", image, 3.7, 7)
    coord, cell = reference.inexact(queries).unsqueeze(0), cell_size(size, output).unsqueeze(0)
    with torch.no_grad():
        assert_close(ours(image, coord=coord, cell=cell)[0], expected)
        whole = ours(image, scale=3.7)
    assert_close(whole[0].flatten(1).T[::7], expected)
    assert len(pixel_centers(output)[::7]) == len(expected)


# --- refused ----------------------------------------------------------------------------------------------------------


def assert_refused(network, path, *words, kind=CheckpointError):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(kind) as caught:
        load_published(network, path)
    assert_teaches(caught.value, *words)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_another_size_is_named(tmp_path):
    path = saved(tmp_path / "w.pth", swinir_file(4), "params")
    size = {"dim": 8, "depths": (2, 1), "heads": 2, "out_channels": 4}
    assert_refused(SwinIR(2, **size), path, "as configured", "scale=4", "dim=8, depths=(2, 1), heads=2")
    assert_refused(SwinIR(4, **{**size, "depths": (2, 2)}), path, "groups.1.layers.1", "depths=(2, 1)")
    assert_refused(LIIF(EDSREncoder(4, 3), 6), saved(path, liif_file("EDSR")), "EDSREncoder(4, 2)")
    assert_refused(LTE(EDSREncoder(4, 2), 6), saved(path, lte_file("SwinIR")), "SwinIREncoder(dim=8")
    assert_refused(EDSREncoder(4, 3), saved(path, lte_file("EDSR")), "EDSREncoder(4, 2)")
    assert_refused(EDSR(3, 4, 2), saved(path, edsr_file(2), None), "scale=2")


def small_networks():
    return {
        "EDSR": EDSR(2, 4, 2),
        "SwinIR": SwinIR(2, dim=8, depths=(2, 1), heads=2, out_channels=4),
        "LIIF": LIIF(EDSREncoder(4, 2), 6),
        "LTE": LTE(EDSREncoder(4, 2), 6),
    }


@pytest.mark.parametrize("found", ["EDSR", "SwinIR", "LIIF", "LTE"])
def test_files_of_another_network(tmp_path, found):
    files = {"EDSR": edsr_file(), "SwinIR": swinir_file(), "LIIF": liif_file("EDSR"), "LTE": lte_file("EDSR")}
    packed = {"EDSR": None, "SwinIR": "params", "LIIF": "model", "LTE": "model"}[found]
    path = saved(tmp_path / "w.pth", files[found], packed)
    for wanted, network in small_networks().items():
        if wanted == found:
            load_published(network, path)
        else:
            assert_refused(network, path, f"weights of {wanted}", f"got weights of {found}")


@pytest.mark.parametrize("kind", ["EDSR", "SwinIR"])
def test_encoders_refuse_a_mean_that_they_cannot_hold(tmp_path, kind):
    state = edsr_file() if kind == "EDSR" else swinir_file()
    assert_refused(our_encoder(kind), saved(tmp_path / "w.pt", state, None), "mean color", f"into {kind}")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: [s.pop("conv_last.weight"), s.pop("conv_before_upsample.0.weight")], "classical"),  # lightweight
        (lambda s: s.layer("conv_up1", 4, 4, 3, 3), "conv_up1"),  # real world
        (lambda s: s.layer("conv_after_body.0", 2, 8, 3, 3), "conv_after_body.0"),  # large
        (lambda s: s.layer("layers.0.conv.0", 2, 8, 3, 3), "layers.0.conv.0"),
        (lambda s: s.alone("absolute_pos_embed", 1, 64, 8), "absolute_pos_embed"),
        (lambda s: s.pop("norm.weight"), "encoder.norm_out.weight"),
    ],
)
def test_other_kinds_of_swinir(tmp_path, change, word):
    state = swinir_file()
    change(state)
    assert_refused(small_networks()["SwinIR"], saved(tmp_path / "w.pth", state, "params"), word)


def test_networks_that_have_no_counterpart(tmp_path):
    path, networks = tmp_path / "w.pth", small_networks()
    assert_refused(networks["LIIF"], saved(path, liif_file("EDSR", 4 + 4)), "(6, 8)")  # features not unfolded
    wide = edsr_file(width=256, blocks=1)
    assert_refused(EDSR(2, 256, 1), saved(path, wide, None), "256")
    rdn = Tensors()
    rdn.layer("encoder.SFENet1", 4, 3, 3, 3)
    rdn.mlp([40, 6, 6, 6, 6, 3])
    assert_refused(networks["LIIF"], saved(path, rdn), "SFENet1")
    headless = {name: value for name, value in liif_file("EDSR").items() if name.startswith("imnet")}
    assert_refused(networks["LIIF"], saved(path, headless), "lacks")
    fast = {name: value for name, value in lte_file("EDSR").items() if not name.startswith("imnet")}
    assert_refused(networks["LTE"], saved(path, fast), "LTE")  # LTE+
    # A fixed-scale network of LIIF's own training holds a mean that it does not use.
    torch.save({"model": {"name": "edsr-baseline", "args": {}, "sd": dict(edsr_file(span=1))}}, path)
    assert_refused(networks["EDSR"], path, "something else")


@pytest.mark.parametrize(
    "content", [{}, {"model": {"name": "liif"}}, {"params": {}}, {"network": [1]}, {"params": {"a": 1}}, {"a": "b"}]
)
def test_files_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    for network in small_networks().values():
        assert_refused(network, tmp_path / "w.pth", "something else")


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_damaged_files_and_pickled_code(tmp_path, capsys):
    path = saved(tmp_path / "w.pth", liif_file("EDSR"))
    whole = path.read_bytes()
    for content in (b"", b"not weights", pickle.dumps(Evil()), whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert_refused(small_networks()["LIIF"], path, "damaged or foreign")
    torch.save({"model": Evil()}, path)
    assert_refused(small_networks()["LIIF"], path, "damaged or foreign")
    assert_refused(small_networks()["LIIF"], tmp_path / "none.pth", "does not exist")
    assert "executed" not in capsys.readouterr().out


def test_networks_that_were_never_published(tmp_path):
    path = saved(tmp_path / "w.pth", liif_file("EDSR"))
    assert_refused(LIIF(EDSREncoder(4, 2), 6, bicubic_residual=True), path, "bicubic_residual", kind=ConfigError)
    iste = ISTE(EDSREncoder(4, 2), texture_channels=4, hidden_channels=4)
    assert_refused(iste, path, "ISTE", kind=ConfigError)
