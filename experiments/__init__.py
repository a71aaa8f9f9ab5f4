"""The paper's experiments, each re-runnable: ``python -m experiments --help``."""
