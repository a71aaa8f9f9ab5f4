"""Clocks, images and networks for the benchmarks' tests, and the tables that a benchmark prints."""

import itertools

import torch
from reference import randomise

from benchmarks.naive import NaiveISTE
from monai_iste.networks import ISTE, EDSREncoder, SwinIREncoder


def ticks():
    """A clock that advances by one second at every reading."""
    counter = itertools.count()
    return lambda: float(next(counter))


def image_of(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


NETWORKS = {
    "as printed": {},
    "options": {"heads": 2, "query_kernel": 3, "bicubic_residual": True},
    "four corners": {"texture_corners": "four"},
    "blended features": {"texture_corners": "four", "blend": "features", "bicubic_residual": True},
    "swinir": {"encoder": lambda: SwinIREncoder(4, dim=6, depths=(2,), heads=2, window=4, drop_path=0.0)},
}


def pair_of(name="as printed", seed=0):
    options = {"encoder": lambda: EDSREncoder(4, 1), **NETWORKS[name]}
    net = ISTE(options.pop("encoder")(), texture_channels=6, hidden_channels=7, inference_keys="all", **options)
    randomise(net, seed)
    return net.eval(), NaiveISTE(net).eval()


def table_rows(text, title):
    """The cells of one table in the output of a command."""
    lines = text.partition(title + "\n")[2].splitlines()
    lines = list(itertools.takewhile(bool, lines[2:]))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
