"""Commands as processes of their own that start in milliseconds: forked from one that has imported everything."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SERVER = """
import json, os, signal, sys, time
import torch
import monai_iste.cli.jobs, monai_iste.slides.cluster
import zarr, imagecodecs, tifffile, openslide
from monai_iste.networks import PRESETS, EDSREncoder, presets
from monai_iste.cli.main import main

torch.set_num_threads(1)
arguments = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}
PRESETS["tiny"] = presets.Preset("for tests", lambda: EDSREncoder(8, 1), arguments)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        pid, status = os.waitpid(order["wait"], 0 if order["block"] else os.WNOHANG)
        answer = None if pid == 0 else os.waitstatus_to_exitcode(status)
    else:
        answer = os.fork()
        if answer == 0:
            code = 1
            try:
                log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1), os.dup2(log, 2)
                os.chdir(order["folder"])
                time.sleep(max(0, order["start"] - time.time()))
                sys.argv = ["monai-iste", *order["arguments"]]
                main()
                code = 0
            except SystemExit as error:
                code = error.code or 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(code)
    print(json.dumps(answer), flush=True)
"""


class Command:
    """One running command."""

    def __init__(self, server, pid, log):
        self._server, self.pid, self._log, self._code = server, pid, log, None

    def poll(self, block=False):
        """The exit code, negative after a signal; None while it runs."""
        if self._code is None:
            self._code = self._server.ask({"wait": self.pid, "block": block})
        return self._code

    def wait(self):
        return self.poll(block=True)

    def kill(self):
        """SIGKILL; returns whether the command was still running."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def output(self):
        return self._log.read_text(errors="replace")


class ForkServer:
    """Server of commands; a context."""

    def __enter__(self):
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, "-c", SERVER], **options)
        self._count = 0
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, *arguments, folder, at=0.0):
        """Start ``monai-iste`` in a folder, at a time in seconds since 1970."""
        self._count += 1
        log = Path(folder).parent / f"command{self._count}.log"
        words = [str(argument) for argument in arguments]
        pid = self.ask({"arguments": words, "folder": str(folder), "log": str(log), "start": at})
        return Command(self, pid, log)
