"""Inputs and outputs of the experiments' tests: synthetic tissue, and the rows of a table."""

import csv
from pathlib import Path

import numpy as np


def tissue(seed: int, shape: tuple[int, int] = (50, 66)) -> np.ndarray:
    """Pink ground with some texture, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 12, (*shape, 3))
    return np.clip(np.array([200, 120, 160]) + noise, 0, 255).astype(np.uint8)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
