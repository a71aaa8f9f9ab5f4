"""A trained model for the bundle's tests, and the environment of one process among several."""

from pathlib import Path

import ignite.distributed as idist
import pytest
import torch
from bundle_workflows import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder)
    return folder / "out"


@pytest.fixture
def alone(monkeypatch):
    """One process with the environment of torch.distributed.run."""
    for key, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}.items():
        monkeypatch.setenv(key, value)
    yield
    idist.finalize()  # Ignite remembers the group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
