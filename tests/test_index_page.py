"""The README as a package index shows it, where relative links lead nowhere."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[[^\[\]]*\]\(([^()\s]+)\)")


@pytest.fixture
def shown(monkeypatch):
    setuptools = pytest.importorskip("setuptools")

    def show(address):
        found = {}
        monkeypatch.setattr(setuptools, "setup", lambda **settings: found.update(settings))
        monkeypatch.setenv("MONAI_ISTE_REPOSITORY", address)
        runpy.run_path(str(ROOT / "setup.py"))
        return found

    return show


def test_links_are_absolute_where_the_repository_has_an_address(shown):
    settings = shown("https://example.org/team/monai_iste/")
    links = LINK.findall(settings["long_description"])
    assert len(links) == len(LINK.findall((ROOT / "README.md").read_text())) > 20
    for picture, target in links:
        assert re.match("https?://|#", target), target
        prefix = f"https://example.org/team/monai_iste/{'raw' if picture else 'blob'}/v{settings['version']}/"
        if target.startswith("https://example.org"):
            assert target.startswith(prefix)
            assert (ROOT / target.removeprefix(prefix).partition("#")[0]).exists(), target
    assert any(picture for picture, _ in links)
    assert settings["project_urls"] == {"Source": "https://example.org/team/monai_iste"}


def test_without_an_address_the_words_stay_and_nothing_is_broken(shown):
    settings = shown("")
    text = settings["long_description"]
    assert [target for _, target in LINK.findall(text) if not re.match("https?://|#", target)] == []
    assert "Code and released weights are Apache-2.0: use them" in text
    assert "pip install -e ." in text
    assert settings["project_urls"] == {}
