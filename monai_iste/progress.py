"""Progress bar of the library's commands."""

from __future__ import annotations

from tqdm import tqdm


class ProgressBar(tqdm):
    """tqdm's bar, made so that Ctrl-C and SIGTERM may interrupt its constructor.

    tqdm also closes a bar that is half made, which fails for want of attributes and prints a traceback: every bar
    before tqdm 4.70, a visible one in later versions too.
    """

    def close(self) -> None:
        """End the bar, if it is visible."""
        if hasattr(self, "start_t"):  # the constructor of a visible bar sets it last
            super().close()
