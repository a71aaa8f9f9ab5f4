"""Processor threads of programs: their number, and how they wait for each other. PyTorch need not be loaded.

PyTorch's threads divide single operations and meet at the end of each. By default they wait there by running in
circles, so that another busy program stops all of them: a training step on two processors can take five times as long
as on one thread. Here they wait for an instant and then sleep.
"""

from __future__ import annotations

import os
import sys

#: Environment of a program whose threads shall sleep while they wait, for GNU's OpenMP and for LLVM's and Intel's.
SLEEPING_WAITS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}

_POLICIES = ("OMP_WAIT_POLICY", *SLEEPING_WAITS)


def sleep_while_waiting() -> None:
    """Let the threads of this program, and of those that it starts, sleep while they wait; before PyTorch is loaded.

    An environment that says how they wait is left as it is.

    Example:
        >>> before = dict(os.environ)
        >>> sleep_while_waiting()
        >>> any(name in os.environ for name in _POLICIES)
        True
        >>> os.environ.clear(), os.environ.update(before)
        (None, None)
    """
    if not any(name in os.environ for name in _POLICIES):
        os.environ.update(SLEEPING_WAITS)


def use_threads(count: int | None) -> None:
    """Let this program, and those that it starts, use ``count`` processor threads; None changes nothing."""
    if count is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
