"""The data sets of the paper, turned into the one layout that everything here trains on and measures with.

``ROOT/{train,val,test}/*.png`` and ``ROOT/dataset.json``, which says what they were made of. One file per data set;
:mod:`~experiments.preparation.output_folder` owns the folder that is filled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.preparation.histosr import prepare_histosr
from experiments.preparation.output_folder import MANIFEST
from experiments.preparation.tcga import prepare_tcga
from experiments.preparation.tma import prepare_tma
from monai_iste.errors import ConfigError

__all__ = ["DATASETS", "MANIFEST", "prepare_dataset", "prepare_histosr", "prepare_tcga", "prepare_tma"]

#: What prepares each data set, by the name that commands know it under.
DATASETS: dict[str, Callable[..., dict[str, Any]]] = {
    "tcga": prepare_tcga,
    "tma": prepare_tma,
    "histosr": prepare_histosr,
}


def prepare_dataset(
    dataset: str, source: str | os.PathLike[str], root: str | os.PathLike[str], seed: int = 0, **options: Any
) -> dict[str, Any]:
    """Prepare a data set by its name.

    Args:
        dataset: a key of :data:`DATASETS`.
        source: the folder with the official files.
        root: the folder that is filled; absent, empty, or the same preparation interrupted.
        seed: of every choice and of the split.
        options: those of the data set's own function.
    Returns:
        the manifest, as in ``ROOT/dataset.json``.
    Raises:
        ConfigError: there is no such data set or option. DataError: the source. OutputError: the target.

    Example:
        >>> prepare_dataset("imagenet", "a", "b")
        Traceback (most recent call last):
        ...
        monai_iste.errors.ConfigError: Expected one of tcga, tma, histosr, got 'imagenet'. GlaS and PCam are read as is.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"one of {', '.join(DATASETS)}", repr(dataset), "GlaS and PCam are read as is.")
    return DATASETS[dataset](Path(source), Path(root), seed=seed, **options)
