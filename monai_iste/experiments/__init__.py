"""The paper's experiments, each re-runnable: ``python -m monai_iste.experiments --help``."""
