# ruff: noqa: F401  (configurations call all of these as monai_iste.bundle.name)
"""Functions that the bundle's configurations call.

:mod:`~monai_iste.bundle.checks` checks settings before a run, :mod:`~monai_iste.bundle.runs` finds folders, processes
and weights, :mod:`~monai_iste.bundle.output_folder` keeps a folder for one training,
:mod:`~monai_iste.bundle.resume` finds the point from which to resume.
"""

from monai_iste.bundle.checks import check_config, learned_blur, required
from monai_iste.bundle.output_folder import claim_output_dir, release_output_dir
from monai_iste.bundle.resume import resume_point
from monai_iste.bundle.runs import (
    bundle_command,
    bundle_root,
    config_file,
    default_preset,
    find_weights,
    is_main,
    join_processes,
    leave_cores_to_workers,
    print_summary,
    resolved_settings,
    running_workflow,
    seed_run,
)
