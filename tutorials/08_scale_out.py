# %% [markdown]
# # Scale out: several processes, several machines
#
# A slide is magnified in windows, and a window is the same whoever computes it. So the work can be shared out, killed,
# and taken up by others, and the pixels do not tell. Name a slide of yours in `SLIDE`. Needs the extra `distributed`:
# `pip install -e ".[distributed]"`. **Not for diagnosis**: magnified pixels are inferred, not measured.

# %%
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image
from skimage.data import immunohistochemistry

import monai_iste
from monai_iste.inferers import Region
from monai_iste.slides import Slide, SlideMetadata, write_slide

SLIDE = None  # "slide.svs", a slide of your own

torch.set_num_threads(1)  # as the workers below, so that results are equal to the last bit
slide = SLIDE or "stand_in.ome.tiff"
if SLIDE is None:
    pixels = immunohistochemistry()

    def read(region):
        return pixels[region.slices]

    half_micrometer = SlideMetadata(mpp=(0.5, 0.5), icc=None, provenance={})
    write_slide(slide, read, pixels.shape[:2], half_micrometer, work_dir=".", compression="lossless", overwrite=True)

# %% [markdown]
# ## Workers on this machine
#
#     monai-iste upscale slide.svs magnified.ome.tiff --mpp 0.25 --workers 4
#
# starts four processes. With several GPUs each takes its own, so name as many workers as GPUs; on a CPU, workers times
# `--threads` should be the number of cores. Let us start two, and kill the command (SIGKILL, as a cluster does when
# time is up) as soon as some windows are done.

# %%
magnified = Path("magnified.ome.tiff")
upscale = [sys.executable, "-m", "monai_iste.cli.main", "upscale", slide, str(magnified), "--mpp", "0.25"]
upscale += ["--compression", "lossless", "--threads", "1"]


def windows_done():
    """How many windows the ledger of the unfinished work names."""
    ledger = Path(f"{magnified}.work/ledger.txt")
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


command = subprocess.Popen([*upscale, "--workers", "2"], stderr=subprocess.DEVNULL)
while windows_done() < 4 and command.poll() is None:
    time.sleep(0.05)
command.kill()
command.wait()
killed_at = windows_done()
print("killed; there is no result yet:", not magnified.exists())
print("what is left:", *sorted(path.name for path in Path(f"{magnified}.work").iterdir()))
assert killed_at >= 4
assert not magnified.exists()

# %% [markdown]
# The ledger names every window that is done, with a checksum, in the order in which they were done.
#
# ## A scheduler, and workers wherever they are
#
# A Dask scheduler hands out tasks; workers come and go. On a cluster:
#
#     dask scheduler                                    # prints its address
#     dask worker tcp://10.0.0.5:8786 --nthreads 1      # on every machine, or one for each GPU
#     monai-iste upscale slide.svs magnified.ome.tiff --mpp 0.25 --scheduler tcp://10.0.0.5:8786 --resume
#
# All of them need this package in the same version, and see slide and work folder under the same paths. Whoever reaches
# the scheduler's port can run programs on the workers: keep it inside your network. Here both are on this machine:

# %%
dask = [sys.executable, "-m", "dask"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
local = ["--host", "127.0.0.1", "--no-dashboard"]
meeting = Path("scheduler.json")  # the scheduler writes its address into it
meeting.unlink(missing_ok=True)
cluster = [
    subprocess.Popen([*dask, "scheduler", *local, "--port", "0", "--scheduler-file", str(meeting)], **quiet),
    subprocess.Popen(
        [*dask, "worker", *local, "--nworkers", "2", "--nthreads", "1", "--scheduler-file", str(meeting)], **quiet
    ),
]
while not meeting.exists() or not meeting.read_text():
    time.sleep(0.1)
    assert cluster[0].poll() is None
address = json.loads(meeting.read_text())["address"]
print("the scheduler listens at", address.rpartition(":")[0])

# %% [markdown]
# ## Resume
#
# The same command with `--resume` goes on with what is done, whoever did it:

# %%
done = subprocess.run([*upscale, "--scheduler", address, "--resume"], capture_output=True, text=True)
for process in reversed(cluster):
    process.terminate()
    process.wait()
assert done.returncode == 0, done.stderr
kept = next(line for line in done.stderr.splitlines() if line.startswith("goes on in"))
print(kept)
assert f": {killed_at} of " in kept
assert not Path(f"{magnified}.work").exists()

# %% [markdown]
# ## The same pixels
#
# Two workers, one kill and two more workers later, the slide has the pixels that one process gives in one go, every one
# of them:

# %%
with tifffile.TiffFile(magnified) as tiff:
    found = tiff.series[0].levels[0].asarray()
print(found.shape)
if SLIDE is None:
    expected = monai_iste.upscale(pixels, scale=2)
    print("pixels that differ:", int((found != expected).any(axis=2).sum()))
    assert np.array_equal(found, expected)

# %% [markdown]
# Windows are 192 pixels of the slide wide and overlap by 16. This is a place where four of them meet, magnified; no
# border is to be seen:

# %%
with Slide(magnified) as result:
    corner = result.read(Region(2 * 184 - 160, 2 * 184 - 240, 320, 480))
Image.fromarray(corner)

# %% [markdown]
# On one kind of device with one number of threads the pixels are equal; between CPUs and GPUs, or other numbers of
# threads, one may differ by one 8-bit level. Slurm, and how the work is kept: [whole slides](../slides.md).
