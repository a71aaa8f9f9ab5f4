"""The authors' programs are called like this library's networks."""

import sys

import pytest
import torch
from reference import assert_close, assert_teaches

from benchmarks.peers import AuthorsNetwork
from monai_iste.errors import ConfigError
from monai_iste.networks import EDSREncoder

MODELS = """
import timm.models.layers
import tensorboardX
import utils

models = {}

def register(name):
    def keep(cls):
        models[name] = cls
        return cls
    return keep

def make(spec, args=None):
    return models[spec["name"]](**spec["args"], **(args or {}))

from models import KIND
"""
HEAD = """
import torch
from models import make, register

@register("mlp")
class Layers(torch.nn.Linear):
    def __init__(self, in_dim, out_dim, hidden_list):
        super().__init__(in_dim, out_dim)
        self.hidden_list = hidden_list

@register("KIND")
class Head(torch.nn.Module):
    def __init__(self, encoder_spec, imnet_spec):
        super().__init__()
        self.encoder, self.imnet = make(encoder_spec), make(imnet_spec, {"in_dim": 2})

    def gen_feat(self, image):
        self.mean = self.encoder(image).mean().cuda()

    def query_rgb(self, coord, cell):
        assert coord.shape == cell.shape
        return 2 * torch.stack([coord[..., 0], coord[..., 1], cell[..., 1] / 2], dim=-1) - 1
"""


def repository_of(folder, kind):
    """The skeleton of such a repository: a head that returns its queries."""
    package = folder / "models"
    package.mkdir(parents=True)
    (folder / "utils.py").write_text(f"KIND = {kind!r}\n")
    (package / "__init__.py").write_text(MODELS.replace("KIND", kind))
    (package / f"{kind}.py").write_text(HEAD.replace("KIND", kind))
    return folder


def test_authors_programs_are_called_like_this_librarys(tmp_path, monkeypatch):
    monkeypatch.setattr(AuthorsNetwork, "batch", 7)
    before = dict(sys.modules), list(sys.path), torch.Tensor.cuda
    for kind, depth in (("liif", 4), ("lte", 3)):
        theirs = AuthorsNetwork(repository_of(tmp_path / kind, kind), EDSREncoder(4, 1))
        assert theirs.title == f"{kind.upper()}, the authors' code, our encoder"
        assert theirs.network.imnet.hidden_list == [256] * depth
        with torch.no_grad():
            result = theirs(torch.rand(2, 3, 4, 5), scale=2.5)
        assert result.shape == (2, 3, 10, 12)
        assert_close(result[1, 0, :, 0], [(2 * i + 1) / 10 - 1 for i in range(10)])
        assert_close(result[0, 1, 0], [(2 * i + 1) / 12 - 1 for i in range(12)])
        assert_close(result[0, 2], torch.full((10, 12), 1 / 12).numpy())  # half the cell of 2 / W
    assert {name for name in sys.modules if name.split(".")[0] in ("models", "utils", "timm")} == {
        name for name in before[0] if name.split(".")[0] in ("models", "utils", "timm")
    }
    assert sys.path == before[1]
    assert torch.Tensor.cuda is before[2]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        AuthorsNetwork(tmp_path, EDSREncoder(4, 1))
    assert_teaches(error.value, "models/liif.py")
