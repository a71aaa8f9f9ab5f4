# %% [markdown]
# # Reproduce a table
#
# The paper's Table I compares methods that were trained alike. One command trains every method with one budget, scores
# them on the same images under one protocol, and writes the table. Set `DATA` to use your own data. Otherwise tiles are
# cut from scikit-image's sample, and ten steps of training show the procedure, **not which method is better**. Results
# with a larger budget are linked below. Needs a clone of the repository and the extra `experiments`:
# `pip install -e ".[experiments]"`.

# %%
import csv
import json
from pathlib import Path

from PIL import Image
from skimage.data import immunohistochemistry

from experiments.figures import figure
from experiments.quality import table1

DATA = None  # "data/tma", a folder with train/, val/ and test/ of your own

data = Path(DATA or "tiles")
if DATA is None:
    sample = Image.fromarray(immunohistochemistry())
    corners = {
        "train": [(top, left) for top in (0, 160) for left in (0, 160, 320)],
        "val": [(320, 0)],
        "test": [(top, left) for top in (320, 416) for left in (160, 256, 352)],
    }
    for part, places in corners.items():
        side = 96 if part == "test" else 160
        (data / part).mkdir(parents=True, exist_ok=True)
        for top, left in places:
            sample.crop((left, top, left + side, top + side)).save(data / part / f"{top}_{left}.png")

# %% [markdown]
# ## One command
#
#     python -m experiments table1 --root tiles --output-dir table --methods bicubic,liif,iste \
#         --steps 10 --scales 2,4 --crop 96
#
# The defaults are all eight methods with 1,000 steps each. `--seeds 3` trains each method three times. `--budget paper`
# is the paper's budget, for GPUs. The function does the same as the command:

# %%
table1(
    root=data,
    output_dir=Path("table"),
    methods="bicubic,liif,iste",
    steps=10,
    scales="2,4",
    crop=96,
)

# %% [markdown]
# After an interruption, the same command resumes; finished runs are not repeated. Each run has a folder with its log,
# its weights and `run.json`, which records its settings:

# %%
for path in sorted(Path("table/runs").glob("*/run.json")):
    run = json.loads(path.read_text())
    print(f"{path.parent.name}: {run['workflow']}, finished: {run['finished']}")
assert Path("table/runs/iste-10-seed0/model.pt").is_file()

# %% [markdown]
# ## Read the table
#
# `table1.csv` has a line for each method and scale, unrounded. `.md` and `.tex` are formatted for papers.

# %%
with open("table/table1.csv") as file:
    rows = list(csv.DictReader(file))
for row in rows:
    print(f"{row['label']:8} x{row['scale']}  {float(row['psnr']):.2f} dB  SSIM {float(row['ssim']):.4f}")
assert {row["method"] for row in rows} == {"bicubic", "liif", "iste"}

# %% [markdown]
# ## Interpret the intervals
#
# `table1-differences.csv` has the difference of ISTE to every other method of any scale: the mean over the test images,
# and its 95 % interval by a paired bootstrap. Images that are hard for one method are hard for all, so differences are
# taken image by image. If the interval does not contain 0, *these two trained networks* would most likely differ in the
# same direction on other images of this kind. The interval does not cover other trainings: use several seeds for that.
# Crops of one image, as here, are not independent, and make the interval too narrow.

# %%
with open("table/table1-differences.csv") as file:
    differences = [row for row in csv.DictReader(file) if row["metric"] == "psnr"]
for row in differences:
    mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
    print(f"ISTE minus {row['other'].upper()} at x{row['scale']}: {mean:+.2f} dB, 95 % in [{low:+.2f}, {high:+.2f}]")
    assert low <= mean <= high

# %% [markdown]
# The example shows the limits: after ten steps LIIF is better, with an interval far from 0, and these two networks
# would differ likewise on other crops. With 500 steps and three seeds on H&E tiles, ISTE is better:
# [results](../results/tables.md#after-500-steps). An interval describes trained networks, not methods.
#
# ## Read the manifest
#
# `table1-manifest.json` has versions, hardware, hashes of images and weights, and the processor time of every run, so
# that others can compare their conditions.

# %%
manifest = json.loads(Path("table/table1-manifest.json").read_text())
print(*sorted(manifest), sep=", ")

# %% [markdown]
# ## Figures
#
# Figures 5 to 10 have a command each. Figure 9 shows the contributions of the two decoders:
#
#     python -m experiments figure 9 --image tile.png --out figure9.png

# %%
figure(
    9, image=data / "test" / "320_256.png" if DATA is None else next((data / "test").iterdir()), out=Path("nine.png")
)
nine = Image.open("nine.png")
nine.resize((1000, round(nine.height * 1000 / nine.width)), Image.Resampling.LANCZOS)

# %% [markdown]
# Networks of a table are compared in a figure by
#
#     python -m experiments figure 5 --image tile.png --out figure5.png \
#         --method liif_light=table/runs/liif-10-seed0/model.pt --weights table/runs/iste-10-seed0/model.pt
#
# The other tables and figures, official data sets, and your own method in the table: [experiments](../experiments.md).
