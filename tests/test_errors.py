"""Errors as sentences: their text, and the output of a command."""

import subprocess
import sys

import pytest

from monai_iste import errors
from monai_iste.errors import ConfigError, DataError, find_error, find_interrupt

KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_one_sentence_each(kind):
    assert str(kind("a cat", "a dog", "Bring a cat.")) == "Expected a cat, got a dog. Bring a cat."


def test_every_kind_has_its_own_exit_code():
    codes = [kind.exit_code for kind in KINDS]
    assert 0 not in codes
    assert len(set(codes)) == len(codes)


def test_found_behind_what_a_configuration_wraps_around_it():
    inner, outer = DataError("a", "b", "c."), RuntimeError("Failed to evaluate")
    outer.__cause__ = inner
    assert find_error(outer) is inner
    assert find_error(RuntimeError("a defect")) is None


def test_an_interrupt_is_found_behind_what_replaced_it():
    interrupt, cleanup = KeyboardInterrupt(), AttributeError("no attribute '_lock'")
    cleanup.__context__ = interrupt
    outer = RuntimeError("cannot close")
    outer.__cause__ = cleanup
    assert find_interrupt(outer) is find_interrupt(interrupt) is interrupt
    assert find_interrupt(RuntimeError("a defect")) is find_interrupt(None) is None


def run(body: str) -> subprocess.CompletedProcess:
    setup = "from monai_iste import errors\nfrom monai_iste.errors import *\nerrors.show_errors_as_sentences()\n"
    return subprocess.run([sys.executable, "-c", setup + body], capture_output=True, text=True)


def test_a_command_shows_the_sentence_and_the_code():
    done = run("try:\n  raise DataError('a', 'b', 'c.')\nexcept Exception as e:\n  raise RuntimeError('x') from e")
    assert done.returncode == DataError.exit_code
    assert done.stderr.strip() == "error: Expected a, got b. c."


def test_a_loading_process_s_traceback_is_left_out():
    text = "Caught DataError in DataLoader worker process 0.\\nTraceback\\nmonai_iste.errors.DataError: Expected a."
    done = run(f"raise DataError('{text}')")
    assert done.stderr.strip() == "error: Expected a."


def test_a_misspelled_argument_of_a_component():
    done = run("def f(): pass\ntry:\n  f(lerning_rate=1)\nexcept TypeError as e:\n  raise RuntimeError('x') from e")
    assert done.returncode == ConfigError.exit_code
    assert "'lerning_rate'" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_is_a_line():
    done = run("raise KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr.strip().startswith("interrupted: ")
    assert "Traceback" not in done.stderr


def test_defects_keep_their_traceback():
    done = run("raise ZeroDivisionError('defect')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_interrupt_that_was_replaced_while_cleaning_up_ends_a_command_as_an_interrupt():
    done = run("try:\n  raise KeyboardInterrupt\nfinally:\n  raise AttributeError('no lock')")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr


def test_an_error_that_is_its_own_cause_ends_the_search():
    error = RuntimeError("a defect")
    error.__cause__ = error
    assert find_error(error) is find_interrupt(error) is None
    first, second = DataError("a", "b", "C."), RuntimeError("c")
    first.__cause__, second.__cause__ = second, first
    assert find_interrupt(first) is None
    assert find_error(second) is first


NAMES = {"a\nb.png": r"a\nb.png", "a\x1b[31mb": r"a\x1b[31mb", "a\u202egnp.b": r"a\u202egnp.b", "\xe9": "\xe9"}


@pytest.mark.parametrize(("name", "shown"), NAMES.items())
def test_control_characters_of_names_are_shown_as_escapes(name, shown):
    text = str(DataError("an image", name, "Copy it again."))
    assert text == f"Expected an image, got {shown}. Copy it again."
    assert str(DataError(text)) == text
