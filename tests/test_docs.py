"""The pages of the repository: links, names and commands exist; programs run."""

import argparse
import ast
import importlib
import importlib.util
import inspect
import os
import re
import runpy
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from unittest.mock import patch

import pages
import pytest
import torch
import typer
import yaml
from monai.bundle import ConfigParser
from monai.bundle import scripts as bundle_scripts
from pages import PAGES, ROOT

import monai_iste
from monai_iste.cli.main import app as monai_iste_command
from monai_iste.coordinates import nearest_pixel
from monai_iste.networks import create_iste

#: Programs of other projects; some run in a separate environment.
OTHERS = {"venv", "pytest", "pip", "http.server", "monailabel.main"}


def all_of(find):
    """Something of every page: a list of (page, found)."""
    return [(page, found) for page in PAGES for found in find(page)]


def test_there_is_something_to_check():
    assert {"README.md", "docs/paper.md", "docs/faq.md", "bundles/iste/docs/README.md"} <= set(PAGES)
    assert len(all_of(pages.links)) > 200
    assert len(all_of(pages.commands)) > 100
    assert len(all_of(pages.symbols)) > 80


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in pages.links(page):
        assert (ROOT / link.path).exists(), link
        if link.anchor:
            assert link.path.endswith(".md"), link
            assert link.anchor in pages.anchors(link.path), link


@pytest.mark.parametrize("page", PAGES)
def test_named_symbols_are_defined_where_the_link_leads(page):
    for link in pages.symbols(page):
        assert link.text.strip("`") in pages.definitions(link.path), link


# --- commands ---------------------------------------------------------------------------------------------------------


def check_click(command, words):
    """Sub-commands and options of a command line exist, and options have their values."""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no sub-command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    if words and words != ["--help"]:
        context = command.make_context("it", [], resilient_parsing=True)
        context.resilient_parsing = False
        command.make_parser(context).parse_args(list(words))  # raises at what it does not know


class Parsed(Exception):
    """A command line was understood."""


def check_argparse(main, words):
    """The same for a program that parses with argparse; it is stopped before it does anything."""

    def parse(parser, args=None, _parse=argparse.ArgumentParser.parse_args):
        _parse(parser, args)
        raise Parsed

    with patch.object(argparse.ArgumentParser, "parse_args", parse), pytest.raises(Parsed):
        main(words)


def check_own(module, words):
    """A command line of ``python -m module``, of this repository."""
    spec = importlib.util.find_spec(module)
    name = f"{module}.__main__" if spec.submodule_search_locations else module
    found = importlib.import_module(name)
    if hasattr(found, "argparse"):
        return check_argparse(found.main, words) if words else None
    app = getattr(found, "app", None)
    if app is None:  # it is made where the module is run
        app = typer.Typer()
        run = re.search(r"(?:typer\.run|app\.command\(\))\((\w+)\)", Path(found.__file__).read_text())
        app.command()(getattr(found, run[1]))
    return check_click(typer.main.get_command(app), words)


def check_bundle(words):
    """A command of MONAI's: its files are there, its ids and overrides are in them."""
    name, words = words[0], words[1:]
    known = set(inspect.signature(getattr(bundle_scripts, name)).parameters)
    ids = [words.pop(0)] if words and not words[0].startswith("-") else []
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert all(option.startswith("--") for option in options), options
    files = options.get("--config_file")
    if files is None:
        return
    files = ast.literal_eval(files) if files.startswith("[") else [files]
    files = [str(ROOT / file) for file in files if "/" in file]  # one without a folder is the reader's own
    config = ConfigParser.load_config_files(files)
    for key in [*ids, *(option[2:] for option in options)]:
        found = config
        for part in [] if key in known else key.split("#"):
            assert part in found, f"no {key} in {files}"
            found = found[part] if isinstance(found, dict) else ()


def check(words):
    if words[0] == "monai-iste":
        return check_click(typer.main.get_command(monai_iste_command), words[1:])
    if words[:2] == ["pip", "install"]:
        named = re.findall(r"(?:^\.|monai_iste)\[([\w,-]+)\]", "\n".join(words), re.M)
        assert set(",".join(named).split(",")) - {""} <= pages.extras()
        return None
    module, words = words[2], words[3:]
    if module == "torch.distributed.run":
        at = words.index("-m")
        module, words = words[at + 1], words[at + 2 :]
    if module == "monai.bundle":
        return check_bundle(words) if words else None
    if module in OTHERS:
        return None
    assert module.partition(".")[0] in ("monai_iste", "experiments", "scripts", "benchmarks", "tutorials"), module
    return check_own(module, words)


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist_with_their_options(page):
    for words in pages.commands(page):
        try:
            check(words)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page}: {' '.join(words)}: {error}") from error


@pytest.mark.parametrize(
    "command",
    [
        "monai-iste upscale a.png b.png --factor 2",
        "monai-iste enlarge a.png b.png",
        "pip install -e .[everything]",
        "python -m experiments table9",
        "python -m monai_iste.nothing",
        "python -m benchmarks.speed --size 48",
        "python -m benchmarks.speed --sizes",
        "python -m monai_iste.networks.export --onnx",
        "python -m monai.bundle run training --config_file bundles/iste/trained.json",
        "python -m monai.bundle run learning --config_file bundles/iste/train.json",
        "python -m monai.bundle run training --config_file bundles/iste/train.json --network_def#depth 3",
        "python -m monai.bundle go --config_file bundles/iste/train.json",
    ],
)
def test_commands_that_do_not_exist_are_found(command):
    with pytest.raises(Exception, match=r"."):  # one of a dozen kinds
        check(command.split())


# --- programs ---------------------------------------------------------------------------------------------------------


def test_programs_compile_and_import_what_there_is():
    found = all_of(pages.programs)
    assert len(found) > 5
    for page, code in found:
        for node in ast.walk(compile(code, page, "exec", ast.PyCF_ONLY_AST)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("monai_iste"):
                module = importlib.import_module(node.module)
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert not missing, f"{page}: {node.module} has no {missing}"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_programs_of_the_first_pages_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "program.py"
    program.write_text("\n".join(pages.programs(page)))
    result = runpy.run_path(str(program))
    assert result["upscaled"].shape == (370, 444, 3)


def test_one_line_programs_print_what_their_comment_says():
    found = re.findall(r'^ +python -c "(.*)"  # (.*)$', pages.text_of("docs/faq.md"), re.M)
    assert found
    for code, printed in found:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == printed


# --- the paper in code ------------------------------------------------------------------------------------------------


def table(page, heading):
    """The cells of the first table under a heading, without its head."""
    rows = pages.text_of(page).partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("| ")][1:]


def test_every_equation_has_its_code_its_reference_and_its_test():
    rows = table("docs/paper.md", "Equations")
    assert {number for row in rows for number in re.findall(r"Eq\. \((\d)\)", row[0])} == set("12345678")
    for row in rows:
        assert "../monai_iste/networks/" in row[2], row[0]
        assert "(../tests/helpers/reference.py)" in row[3], row[0]
        assert "`test_" in row[4], row[0]


def test_shapes_are_those_of_the_network():
    b, q, h, w = 2, 5, 8, 9
    net = create_iste("iste").train()  # K = Q
    image, coord, cell = torch.rand(b, 3, h, w), torch.rand(b, q, 2), torch.ones(b, 2)
    with torch.no_grad():
        feat = net.encoder(image)
        feat_lfi = net.local_feature_interactor.attend(feat)
        query = net.local_feature_interactor.projection(feat_lfi)
        amp_freq = net.texture_learner.amp_freq(feat)
        keys = net.keys(amp_freq, coord, cell)
        _, retrieved, confidence = net.self_texture_fusion.retrieve(query, keys)
        fused = net.self_texture_fusion(query, keys)
        samples = nearest_pixel(coord, (h, w))
        texture = net.texture_learner(amp_freq, samples, cell)
        i_ltd = net.local_texture_decoder(texture, samples)
        i_pred = net(image, coord, cell)
    tensors = {"F_LR": feat, "F_LFI": feat_lfi, "F_LFIC": query, "A and f of Eq. (3)": amp_freq, "F_TL": texture}
    tensors |= {"keys": keys, "A": retrieved, "S": confidence, "F_STF": fused, "I_LPD": i_ltd, "I_LTD": i_ltd}
    tensors |= {"X_LR": image, "x_q": coord, "c": cell, "I_Pred": i_pred}
    numbers = {"B": b, "Q": q, "K": q, "h": h, "w": w, "h w": h * w}
    source = "".join(path.read_text() for path in (ROOT / "monai_iste" / "networks").glob("*.py"))
    rows = table("docs/paper.md", "Shapes")
    assert {row[0] for row in rows} == set(tensors)
    for symbol, name, shape, *_ in rows:
        expected = tuple(numbers.get(part) or int(part) for part in shape.strip("()").split(", "))
        assert tuple(tensors[symbol].shape) == expected, symbol
        if "`" in name:
            assert re.search(rf"\b{name.strip('`')}\b.*(= |: Tensor)", source), name


def test_the_picture_of_the_architecture_is_that_of_the_network():
    drawn = runpy.run_path(str(ROOT / "docs" / "images" / "architecture.py"))["drawing"]()
    stored = (ROOT / "docs" / "images" / "architecture.svg").read_text()
    assert re.sub(r'href="data:[^"]*"', 'href=""', stored) == drawn


# --- the repository's own files ---------------------------------------------------------------------------------------


def test_the_citation_is_that_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == monai_iste.__version__
    assert cited["preferred-citation"]["doi"] in pages.text_of("README.md")


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem
)
def test_issue_forms_have_what_a_form_needs(form):
    parsed = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= parsed.keys()
    ids = [part["id"] for part in parsed["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0


# --- the site ---------------------------------------------------------------------------------------------------------


def test_every_module_is_in_the_api():
    named = re.findall(r"^::: (\S+)$", "\n".join(map(pages.text_of, (p for p in PAGES if "docs/api/" in p))), re.M)
    assert len(named) == len(set(named)), "a module twice"
    for path in (ROOT / "monai_iste").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] in ("__main__", "conftest"):
            continue
        module = ".".join(parts).removesuffix(".__init__")
        assert module in named or f"{module.rpartition('.')[0]}.*" in named, f"no page of docs/api/ has {module}"
    for name in named:
        assert importlib.util.find_spec(name.removesuffix(".*")), name


def test_the_api_page_lists_the_public_names():
    rows = re.findall(r"^\| .*`(monai_iste\.\w+)`.*? \| (.*) \|$", pages.text_of("docs/api/index.md"), re.M)
    names = [(package, name) for package, cell in rows for name in re.findall(r"\[`(\w+)`\]", cell)]
    assert len(names) == len(set(names)) > 55
    for package in {package for package, _ in names}:
        public = importlib.import_module(package).__all__
        arrays = {name for name in public if name.removesuffix("d") not in public or not name.endswith("d")}
        assert arrays == {name for owner, name in names if owner == package}, package


def test_every_page_has_its_place_on_the_site():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    places = re.findall(r"[\w./*-]+\.md", nav)
    own = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert all(any(fnmatch(page, place) for place in places) or page.startswith("results/") for page in own)
    missing = {place for place in places if "*" not in place} - own
    assert missing == set(re.findall(r'^    "\S+": "(\S+)",$', (ROOT / "docs" / "hooks.py").read_text(), re.M))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in Path(tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=\"?([^\s\">]+)", page.read_text())
        assert not [target for target in loaded if re.match(r"(https?:)?//", target)], page
