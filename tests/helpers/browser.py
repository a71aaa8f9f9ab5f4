"""A viewer as its command starts it, and programs that drive its page in a headless Chromium.

Needs node, Chromium (``CHROMIUM`` names it, else it is looked for) and npm's ``playwright-core`` (``PLAYWRIGHT_CORE``
names its folder, else it is looked for among the global packages).
"""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import COMMAND

node = shutil.which("node")
needs_node = pytest.mark.skipif(node is None, reason="node is not installed")


def _chromium():
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@functools.cache
def _playwright():
    """The folder of playwright-core, or None."""
    named = os.environ.get("PLAYWRIGHT_CORE")
    if named is None and (npm := shutil.which("npm")):
        root = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, timeout=60).stdout.strip()
        named = f"{root}/playwright-core"
    return named if named and Path(named, "package.json").is_file() else None


def in_a_browser(test):
    """Slow, and only where there is a browser."""
    if not _chromium():
        return pytest.mark.slow(pytest.mark.skip(reason="Chromium is not installed; CHROMIUM names it")(test))
    if node is None or _playwright() is None:
        why = "playwright-core is not installed; PLAYWRIGHT_CORE names its folder"
        return pytest.mark.slow(pytest.mark.skip(reason=why)(test))
    return pytest.mark.slow(test)


@contextmanager
def serving(*files, options=()):
    """The command ``view`` on files, on a free port: (address, file of its log)."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        command = [*COMMAND, "view", *map(str, files), "--port", "0", "--no-browser", "--threads", "2"]
        with log.open("w") as errors:
            process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True)
            try:
                found = re.search(r"http://[\w.:]+", process.stdout.readline())
                assert found, log.read_text()
                yield found[0], log
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=300)  # of a busy machine
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def drive(program, server, out, **given):
    """Run a program beside viewer_page.mjs on a server of :func:`serving`; returns what it printed as JSON."""
    found = {"playwright": _playwright(), "chromium": _chromium(), "base": server[0], "out": str(out), **given}
    done = subprocess.run([node, program, json.dumps(found)], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{done.stderr}\n{server[1].read_text()[-3000:]}"
    Path(out, "found.json").write_text(done.stdout)
    return json.loads(done.stdout)
