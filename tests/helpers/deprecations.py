"""Origin of deprecation warnings: the line of this library that causes them."""

import sys

_WRAPPERS = {"contextlib", "functools", "typing_extensions", "warnings"}


def ours() -> str | None:
    """Return the line of monai_iste whose call causes the warning, or None if another library does.

    The stack is searched, because a library whose ``stacklevel`` is too small names a line of its own. A call that one
    library makes to another, as MONAI does to PyTorch, is ignored. To be called by ``warnings.showwarning``.
    """
    frame, library = sys._getframe(2), None
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "monai_iste":
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if package not in _WRAPPERS:
            library = library or package
            if package != library:
                return None
        frame = frame.f_back
    return None
