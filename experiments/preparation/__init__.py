"""Conversion of the paper's data sets to the folder layout for training and evaluation.

The layout is ``ROOT/{train,val,test}/*.png`` and ``ROOT/dataset.json``, which records the origin of the images. Each
data set has a module; :mod:`~experiments.preparation.output_folder` writes the folder.
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

#: Functions that prepare a data set, by its name.
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
        dataset: key of :data:`DATASETS`.
        source: folder with the official files.
        root: output folder; missing, empty, or an interrupted preparation of the same data set.
        seed: seed of the selection and of the split.
        options: options of the data set's own function.
    Returns:
        the manifest, as in ``ROOT/dataset.json``.
    Raises:
        ConfigError: there is no such data set, or an option is invalid.
        DataError: the source cannot be used.
        OutputError: the output folder cannot be used.

    Example:
        >>> prepare_dataset("imagenet", "a", "b")
        Traceback (most recent call last):
        ...
        monai_iste.errors.ConfigError: Expected one of tcga, tma, histosr, got 'imagenet'. GlaS and PCam are read as is.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"one of {', '.join(DATASETS)}", repr(dataset), "GlaS and PCam are read as is.")
    return DATASETS[dataset](Path(source), Path(root), seed=seed, **options)
