"""A trained model for the bundle's tests."""

from pathlib import Path

import pytest
from bundle_workflows import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder)
    return folder / "out"
