"""The Dockerfile and its page: what they name exists, and nothing that an installation needs is left out."""

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pages
import pytest

ROOT = Path(__file__).parents[1]
FILE = (ROOT / "Dockerfile").read_text()
PAGE = "docs/docker.md"


def ignored(name: str) -> bool:
    """Whether .dockerignore leaves a file out: the last pattern that fits it, or a folder above it, decides."""
    out = False
    paths = [Path(name), *list(Path(name).parents)[:-1]]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#") and any(fits(path, pattern) for path in paths):
            out = not line.startswith("!")
    return out


def fits(path: Path, pattern: str) -> bool:
    """``**/`` stands for any folders; a star does not cross a slash."""
    if pattern.startswith("**/"):
        return any(fits(Path(*path.parts[i:]), pattern[3:]) for i in range(len(path.parts)))
    parts = pattern.split("/")
    return len(parts) == len(path.parts) and all(map(fnmatch.fnmatchcase, path.parts, parts))


def test_what_an_installation_needs_is_copied_and_nothing_else():
    kept = {name for name in tracked() if not ignored(name)}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"} <= kept
    assert {name for name in tracked() if name.startswith("monai_iste/")} <= kept
    assert {"bundles/iste/configs/train.json", "bundles/iste/models/iste_light.safetensors"} <= kept
    assert {name.split("/")[0] for name in kept} == {
        *("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"),
        *("monai_iste", "bundles"),
    }
    for name in ("bundles/iste/eval/model.pt", "bundles/iste/models/model.pt", ".git/config", "tests/conftest.py"):
        assert ignored(name), name
    assert ignored("monai_iste/io/__pycache__/files.cpython-311.pyc")


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return listing.split("\0")[:-1]


def test_the_command_does_not_run_as_root_and_is_ours():
    user = FILE.rindex("\nUSER 1000")
    assert user > FILE.rindex("\nRUN ")
    assert re.findall(r'^ENTRYPOINT \["(.+)"\]', FILE, re.M) == ["monai-iste"]
    assert '"monai-iste = ' in (ROOT / "setup.py").read_text()
    named = set(re.search(r"/src\[(.+?)\]", FILE)[1].split(","))
    assert named <= pages.extras()
    assert FILE.index("torch==") < FILE.index("COPY")  # a change of the sources does not fetch it again
    assert 'torch==2.13.0"' in FILE.replace("${TORCH}", re.search(r"ARG TORCH=(\S+)", FILE)[1])


def commands() -> list[str]:
    return re.findall(r"^    (docker .+)$", pages.text_of(PAGE), re.M)


def test_the_commands_of_the_page_name_arguments_that_there_are():
    stated = dict(re.findall(r"^ARG (\w+)=(\S*)$", FILE, re.M))
    builds = [line for line in commands() if line.startswith("docker build")]
    assert len(builds) == 2
    for build in builds:
        assert build.endswith(" .")
        assert set(re.findall(r"--build-arg (\w+)=", build)) <= stated.keys()
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", pages.text_of(PAGE), re.M))
    assert rows == {name: value or "none" for name, value in stated.items()}


def test_what_runs_in_the_image_is_a_command_and_the_port_is_closed_to_others():
    runs = [line for line in commands() if line.startswith("docker run")]
    assert len(runs) == 3
    for run in runs:
        words = re.split(r" monai_iste(?::cuda)? ", run, maxsplit=1)[1]
        assert words.split()[0] in ("upscale", "view")
        assert "-v " in run
        assert "-p " not in run or re.search(r"-p 127\.0\.0\.1:(\d+):\1 ", run)
        assert ("--host 0.0.0.0" in run) == (words.startswith("view"))
    (port,) = re.findall(r"^EXPOSE (\d+)$", FILE, re.M)
    assert f":{port}:{port} " in runs[-1]
    assert (
        f'"--port", min=0, max=65535, help="Port to listen at; 0: a free one.")] = {port}'
        in (ROOT / "monai_iste" / "cli" / "view.py").read_text()
    )


@pytest.mark.slow
def test_the_image_builds_and_runs():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, timeout=60).returncode:
        pytest.skip("needs a Docker daemon")
    subprocess.run([docker, "build", "-t", "monai_iste:test", "."], cwd=ROOT, check=True, timeout=3600)
    done = subprocess.run([docker, "run", "--rm", "monai_iste:test", "presets"], capture_output=True, text=True)
    assert "iste_light" in done.stdout
