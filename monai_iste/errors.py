"""Family of errors whose messages state what was expected, what was received, and a remedy.

Library code raises these; a command shows only the sentence and exits with the class's ``exit_code``
(:func:`show_errors_as_sentences`).
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ISTEError",
    "OutputError",
    "ScaleError",
    "ShapeError",
    "TrainingError",
]


#: Exit codes of commands that were interrupted (Ctrl-C) or terminated (SIGTERM), as shells count.
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


# Characters by which the name of a file could break the sentence, or change a terminal's colors or order of letters.
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ISTEError(Exception):
    """Base class of the family. Control characters, as names of files may have, are shown as escapes.

    Args:
        expected: requirement, as a phrase ("an image of at least 48x48 pixels"). Alone, it is the whole message: an
            error that crossed a process boundary is rebuilt that way.
        received: value that was received instead, as a phrase.
        remedy: advice to the user, as a sentence.

    Example:
        >>> str(DataError("a folder of images", "the file a.png", "Name its folder."))
        'Expected a folder of images, got the file a.png. Name its folder.'
    """

    exit_code = 1

    def __init__(self, expected: str, received: str | None = None, remedy: str = "") -> None:
        if received is None:
            super().__init__(expected)
        else:
            text = f"Expected {expected}, got {received}. {remedy}".strip()
            super().__init__(_CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text))


class ConfigError(ISTEError, ValueError):
    """Invalid setting, preset or configuration key, unknown or unusable (exit code 2)."""

    exit_code = 2


class DataError(ISTEError, ValueError):
    """File or folder that cannot be used as input (exit code 3)."""

    exit_code = 3


class OutputError(ISTEError, OSError):
    """Output path that cannot be written (exit code 4)."""

    exit_code = 4


class CheckpointError(ISTEError, ValueError):
    """Weights that do not fit the network (exit code 5)."""

    exit_code = 5


class TrainingError(ISTEError, RuntimeError):
    """Training that cannot continue, such as a loss that is no longer finite (exit code 6)."""

    exit_code = 6


class ShapeError(ISTEError, ValueError):
    """Tensor or image of the wrong shape or type (exit code 7)."""

    exit_code = 7


class ScaleError(ISTEError, ValueError):
    """Scale that is not a usable number (exit code 8)."""

    exit_code = 8


class ResourceError(ISTEError, RuntimeError):
    """Memory, threads or file descriptors that the system does not grant (exit code 1)."""


# Words of what systems and libraries say without a type of their own, the resource, and what to do.
_RESOURCES = (
    (("start new thread", "pthread_create", "resource temporarily unavailable"), "another thread", "ulimit -u"),
    (("too many open files",), "another open file", "ulimit -n"),
    (("failed to map segment", "cannot allocate memory", "can't allocate memory"), "memory", "ulimit -v"),
)


def lacking_resource(error: BaseException | None) -> ResourceError | None:
    """Return an error of the family if an exception, or one that caused it, says that the system grants no more.

    Example:
        >>> str(lacking_resource(RuntimeError("can't start new thread")))
        "Expected another thread, got can't start new thread. End other programs, or raise the limit: ulimit -u."
        >>> lacking_resource(RuntimeError("a defect"))
    """
    for cause in _causes(error):
        text = (" ".join(str(cause).split()) or "no memory")[:200]
        if isinstance(cause, MemoryError):
            return ResourceError("memory", text, "End other programs, or raise the limit: ulimit -v.")
        if isinstance(cause, (RuntimeError, ImportError, OSError)):
            for words, resource, limit in _RESOURCES:
                if any(word in text.lower() for word in words):
                    return ResourceError(resource, text, f"End other programs, or raise the limit: {limit}.")
    return None


def check_choice(what: str, value: Any, choices: Collection[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``; the message lists them.

    Args:
        what: name of the value, such as ``"a preset"``.

    Example:
        >>> check_choice("a precision", "fp8", ("fp32", "bf16"))
        Traceback (most recent call last):
        ...
        monai_iste.errors.ConfigError: Expected a precision: fp32, bf16, got 'fp8'. Choose one of these.
    """
    if value not in choices:
        raise ConfigError(f"{what}: {', '.join(choices)}", repr(value)[:100], "Choose one of these.")


def find_error(error: BaseException | None) -> ISTEError | None:
    """Find the first error of this family along a chain of causes; MONAI wraps the errors of configurations.

    An unexpected argument of a component counts as a misspelled key of the configuration.
    """
    for cause in _causes(error):
        if isinstance(cause, ISTEError):
            return cause
        if isinstance(cause, TypeError) and "unexpected keyword argument" in str(cause):
            return ConfigError("arguments that the component has", str(cause), "Check the spelling of the key.")
    return None


def find_interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """Find the interrupt that an exception replaced.

    Libraries that are interrupted may raise an error of their own while they clean up, such as tqdm and thread locks.
    """
    return next((cause for cause in _causes(error) if isinstance(cause, KeyboardInterrupt)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on, each once: an error may be its own cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def show_errors_as_sentences() -> None:
    """End the program with one sentence and an exit code at uncaught errors of this family and Ctrl-C.

    For commands only: it replaces ``sys.excepthook``. Other errors are defects and keep their traceback.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if find_interrupt(error) is not None:
            print("\ninterrupted: finished files are kept", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_INTERRUPTED)
        known = find_error(error)
        if known is None:
            sys.__excepthook__(kind, error, trace)
            return
        # An error raised in a data-loading process arrives with that process's traceback as its text.
        sentence = (
            str(known).strip().splitlines()[-1].removeprefix(f"{type(known).__module__}.{type(known).__name__}: ")
        )
        print(f"\nerror: {sentence}", file=sys.stderr, flush=True)
        raise SystemExit(known.exit_code)

    sys.excepthook = hook


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an extra installs.

    Args:
        module: name of the module, such as ``"zarr"``.
        extra: the extra of this package that installs it.
    Raises:
        ConfigError: it is not installed; the message contains the command that installs it.

    Example:
        >>> require_extra("json", "slides").dumps([1])
        '[1]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the package {module.partition('.')[0]}, which the extra {extra!r} brings",
            str(error),
            install_advice(extra),
        ) from error


def install_advice(extra: str) -> str:
    """Return the sentence with the command that installs an extra: in a clone, or into the present installation.

    The package is on no index. A clone is installed again with the extra; elsewhere pip installs the packages of the
    extra, as the metadata of the installation list them.
    """
    root = Path(__file__).parents[1]
    if (root / "setup.py").is_file():
        place = "." if root == Path.cwd() else root.as_posix()
        return f'Install it: pip install -e "{place}[{extra}]".'
    packages = _packages_of(extra)
    if not packages:
        return f'Install it, in a clone of the repository: pip install -e ".[{extra}]".'
    return f"Install it: pip install {' '.join(shlex.quote(package) for package in packages)}."


def _packages_of(extra: str) -> list[str]:
    """List the requirements of an extra, as the metadata of the installed package state them."""
    try:
        stated = requires("monai_iste") or []
    except PackageNotFoundError:
        return []
    ending = re.compile(rf"""\s*;\s*extra\s*==\s*["']{re.escape(extra)}["']\s*$""")
    return [ending.sub("", line) for line in stated if ending.search(line)]
