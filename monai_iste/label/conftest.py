"""Where MONAI Label is not installed, the modules that import it have no doctests to run."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("monailabel") else ["app.py", "web.py"]
