# %% [markdown]
# # Scale out: several processes and machines
#
# A slide is computed in windows, and a window does not depend on who computes it. So the work can be distributed,
# interrupted and resumed by other workers, and the pixels stay the same. Set `SLIDE` to use a slide of your own. Needs
# the extra `distributed`: `pip install -e ".[distributed]"`. **Not for diagnosis**: super-resolved pixels are inferred,
# not measured.

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

torch.set_num_threads(1)
slide = SLIDE or "example.ome.tiff"
if SLIDE is None:
    pixels = immunohistochemistry()

    def read(region):
        return pixels[region.slices]

    half_micrometer = SlideMetadata(mpp=(0.5, 0.5), icc=None, provenance={})
    write_slide(slide, read, pixels.shape[:2], half_micrometer, work_dir=".", compression="lossless", overwrite=True)

# %% [markdown]
# ## Workers on this machine
#
#     monai-iste upscale slide.svs super_resolved.ome.tiff --mpp 0.25 --workers 4
#
# starts four processes. With several GPUs each process uses its own GPU, so use as many workers as GPUs. On a CPU,
# workers times `--threads` should be the number of cores. Here we start two and kill the command (SIGKILL, as a cluster
# does at its time limit) after some windows.

# %%
output = Path("super_resolved.ome.tiff")
upscale = [sys.executable, "-m", "monai_iste.cli.main", "upscale", slide, str(output), "--mpp", "0.25"]
upscale += ["--compression", "lossless", "--threads", "1"]


def windows_done():
    """Count the windows in the ledger of the unfinished work."""
    ledger = Path(f"{output}.work/ledger.txt")
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


command = subprocess.Popen([*upscale, "--workers", "2"], stderr=subprocess.DEVNULL)
while windows_done() < 4 and command.poll() is None:
    time.sleep(0.05)
command.kill()
command.wait()
killed_at = windows_done()
print("killed; there is no result yet:", not output.exists())
print("what is left:", *sorted(path.name for path in Path(f"{output}.work").iterdir()))
assert killed_at >= 4
assert not output.exists()

# %% [markdown]
# The ledger lists the finished windows with a checksum, in the order in which they were finished.
#
# ## A scheduler, and workers on other machines
#
# A Dask scheduler distributes tasks to workers, which can join and leave. On a cluster:
#
#     dask scheduler                                    # prints its address
#     dask worker tcp://10.0.0.5:8786 --nthreads 1      # on every machine, or one for each GPU
#     monai-iste upscale slide.svs super_resolved.ome.tiff --mpp 0.25 --scheduler tcp://10.0.0.5:8786 --resume
#
# All of them need the same version of this package, and the same paths to slide and work folder. Anyone who can reach
# the scheduler's port can run programs on the workers: keep it inside your network. Here both are on this machine:

# %%
dask = [sys.executable, "-m", "dask"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
local = ["--host", "127.0.0.1", "--no-dashboard"]
address_file = Path("scheduler.json")  # the scheduler writes its address into it
address_file.unlink(missing_ok=True)
cluster = [
    subprocess.Popen([*dask, "scheduler", *local, "--port", "0", "--scheduler-file", str(address_file)], **quiet),
    subprocess.Popen(
        [*dask, "worker", *local, "--nworkers", "2", "--nthreads", "1", "--scheduler-file", str(address_file)],
        **quiet,
    ),
]
while not address_file.exists() or not address_file.read_text():
    time.sleep(0.1)
    assert cluster[0].poll() is None
address = json.loads(address_file.read_text())["address"]
print("the scheduler listens at", address.rpartition(":")[0])

# %% [markdown]
# ## Resume
#
# The same command with `--resume` keeps the finished windows of all workers:

# %%
done = subprocess.run([*upscale, "--scheduler", address, "--resume"], capture_output=True, text=True)
for process in reversed(cluster):
    process.terminate()
    process.wait()
assert done.returncode == 0, done.stderr
kept = next(line for line in done.stderr.splitlines() if line.startswith("continues in"))
print(kept)
assert f": {killed_at} of " in kept
assert not Path(f"{output}.work").exists()

# %% [markdown]
# ## Compare the pixels
#
# After two workers, one kill and two more workers, the slide has the same pixels as with a single process:

# %%
with tifffile.TiffFile(output) as tiff:
    found = tiff.series[0].levels[0].asarray()
print(found.shape)
if SLIDE is None:
    expected = monai_iste.upscale(pixels, scale=2)
    print("pixels that differ:", int((found != expected).any(axis=2).sum()))
    assert np.array_equal(found, expected)

# %% [markdown]
# Windows are 192 pixels of the slide wide and overlap by 16. This is a place where four of them meet. No border is
# visible:

# %%
with Slide(output) as result:
    corner = result.read(Region(2 * 184 - 160, 2 * 184 - 240, 320, 480))
Image.fromarray(corner)

# %% [markdown]
# With one kind of device the pixels are equal. Between CPUs and GPUs they may differ by one 8-bit level. Slurm, and
# how work is stored: [whole slides](../slides.md).
