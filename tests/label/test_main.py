"""The command that serves the MONAI Label app, with and without MONAI Label."""

import socket
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

import monai_iste
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.label.__main__ import arguments, prepare, serve


def test_the_server_listens_on_this_machine(tmp_path):
    words = arguments(tmp_path / "app", tmp_path / "tiles", "127.0.0.1", 8123)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "8123"
    prepare(tmp_path / "app")
    (tmp_path / "app" / "main.py").write_text("# mine\n")
    prepare(tmp_path / "app")
    assert (tmp_path / "app" / "main.py").read_text() == "# mine\n"


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the command replaces it
    app = typer.Typer()
    app.command()(serve)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_without_monai_label_one_sentence_names_the_extra(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monailabel", None)
    error = command(tmp_path, "--app", tmp_path / "app").exception
    assert isinstance(error, ConfigError)
    assert "the extra 'label' brings" in str(error)
    assert "pip install -e" in str(error)
    assert '[label]"' in str(error)
    assert not (tmp_path / "app").exists()
    with pytest.raises(ConfigError, match="the extra 'label' brings"):
        _ = monai_iste.label.MyApp
    with pytest.raises(AttributeError, match="YourApp"):
        _ = monai_iste.label.YourApp


def test_the_command_refuses_before_it_makes_anything(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monailabel", types.ModuleType("monailabel"))
    assert isinstance(command(tmp_path / "none", "--app", tmp_path / "app").exception, DataError)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = command(tmp_path, "--app", tmp_path / "app", "--port", taken.getsockname()[1]).exception
    assert isinstance(error, OutputError)
    assert "a free port" in str(error)
    assert not list(tmp_path.iterdir())
