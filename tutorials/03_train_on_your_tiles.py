# %% [markdown]
# # Train on your own tiles
#
# One command trains, and the same command resumes after an interruption. Set `TILES` to use a folder of your own.
# Otherwise tiles are cut from scikit-image's sample. The trainings here have some tens of steps, which only shows the
# procedure. A useful training has 500 steps and more (`max_epochs=10`, `steps_per_epoch=50`, the defaults). In a clone
# of the repository: `pip install -e .`

# %%
import csv
import logging
import shutil
from pathlib import Path

from monai.bundle import run
from PIL import Image
from skimage.data import immunohistochemistry

import monai_iste

TILES = None  # "my_tiles", a folder with train/, val/ and test/ of your own

bundle = Path(monai_iste.__file__).parents[1] / "bundles" / "iste"

# %% [markdown]
# ## The folder
#
#     tiles/
#       train/   a.png b.png ...    for training
#       val/     c.png ...          scored during training; selects the best weights
#       test/    d.png ...          scored once, at the end
#
# Images are PNG, JPEG, BMP or TIFF, of any size from 128 x 128 (`lr_size` times `max_scale`). Without these subfolders,
# one in ten images is used for validation. Split by patient, not by tile: tiles of one slide are similar. Tiles should
# be sharp, because they are the ground truth of the training.

# %%
if TILES is None:
    sample = Image.fromarray(immunohistochemistry())
    corners = {
        "train": [(top, left) for top in (0, 160) for left in (0, 160, 320)],
        "val": [(320, 0)],
        "test": [(320, 160), (320, 320)],
    }
    for part, places in corners.items():
        folder = Path("tiles", part)
        folder.mkdir(parents=True, exist_ok=True)
        for top, left in places:
            sample.crop((left, top, left + 160, top + 160)).save(folder / f"{top}_{left}.png")
tiles = TILES or "tiles"
print({part.name: len(list(part.iterdir())) for part in sorted(Path(tiles).iterdir())})

# %% [markdown]
# ## Train
#
# In a terminal:
#
#     python -m monai.bundle run training --config_file bundles/iste/train.json --dataset_dir tiles \
#         --output_dir trained --val_crop 128 --batch_size 4 --steps_per_epoch 10 --max_epochs 2
#
# Only `--dataset_dir` is required. The command calls `monai.bundle.run`:

# %%
short = {"dataset_dir": tiles, "val_crop": 128, "batch_size": 4, "steps_per_epoch": 10, "num_workers": 0}
logging.disable(logging.WARNING)  # MONAI's log lines
run("training", config_file=str(bundle / "train.json"), output_dir="trained", max_epochs=2, **short)

# %% [markdown]
# **The table.** Images of `val/` were reduced, upscaled again and compared with the ground truth. `bicubic` is
# interpolation, `iste, initial` the network before its first step, and `iste` the trained network. `gain` is the
# difference to bicubic. After 20 steps from random weights a network is about as good as interpolation. After 500 steps
# it is better.
#
# Files in `trained`:

# %%
print(*sorted(path.name for path in Path("trained").iterdir()), sep="\n")
assert Path("trained/model.pt").is_file()

# %% [markdown]
# ## Resume
#
# The same command, after an interruption or with more epochs, resumes from the last complete epoch: weights, optimizer
# and schedule are in the checkpoint, and random crops depend on the seed and the epoch only. Other settings in the same
# folder are refused. `--resume False` starts again and keeps the earlier run in `previous/`.

# %%
run("training", config_file=str(bundle / "train.json"), output_dir="trained", max_epochs=3, **short)
assert Path("trained/checkpoint_epoch=3.pt").is_file()

# %% [markdown]
# ## Fine-tune, with an overlay
#
# A short training gives better results from the released weights (`--pretrained`) than from random ones. Settings
# without an option of their own are changed by an overlay, a second file with the differences only. This one has a
# smaller learning rate and another loss, and adds scores at x3.7:

# %%
Path("mine.yaml").write_text(
    """\
learning_rate: 0.0002
loss: {_target_: torch.nn.SmoothL1Loss, beta: 0.1}
scales: [2, 3.7]
"""
)
shutil.copy(bundle / "models" / "iste_light2.safetensors", "iste_light2.safetensors")
settings = {"output_dir": "fine_tuned", "pretrained": "iste_light2.safetensors", "max_epochs": 2}
run("training", config_file=[str(bundle / "train.json"), "mine.yaml"], **settings, **short)

# %% [markdown]
# In a terminal:
#
#     python -m monai.bundle run training --config_file "['bundles/iste/train.json', 'mine.yaml']" --dataset_dir tiles \
#         --output_dir fine_tuned --pretrained bundles/iste/models/iste_light2.safetensors
#
# `iste, initial` is now the network with the released weights. Every training writes a picture, `comparison.png`:

# %%
Image.open("fine_tuned/comparison.png")

# %% [markdown]
# ## Evaluate
#
# Evaluate on tiles that were used neither for training nor for the choice of weights:
#
#     python -m monai.bundle run evaluating --config_file bundles/iste/configs/evaluate.json --dataset_dir tiles/test \
#         --checkpoint fine_tuned/model.pt --output_dir evaluated --crop 128 --scales "[2, 3.7]"

# %%
run(
    "evaluating",
    config_file=str(bundle / "configs" / "evaluate.json"),
    dataset_dir=f"{tiles}/test",
    checkpoint="fine_tuned/model.pt",
    output_dir="evaluated",
    crop=128,
    scales=[2, 3.7],
)

# %% [markdown]
# `evaluated/metrics.csv` has a line for each image, for your own statistics:

# %%
with open("evaluated/metrics.csv") as file:
    lines = list(csv.DictReader(file))
for line in lines:
    print(f"{line['image']:12} x{float(line['scale']):<4g} {line['method']:8} {float(line['psnr']):.2f} dB")

psnr = {(line["image"], line["scale"], line["method"]): float(line["psnr"]) for line in lines}
if TILES is None:
    assert all(psnr[image, scale, "iste"] > psnr[image, scale, "bicubic"] for image, scale, _ in psnr)

# %% [markdown]
# ## Use it

# %%
model = monai_iste.load("iste_light2", weights="fine_tuned/model.pt")
print(monai_iste.upscale(Image.new("RGB", (40, 30)), scale=2.5, model=model).size)

# %% [markdown]
# On the command line: `monai-iste upscale slide.svs large.ome.tiff --mpp 0.25 --weights fine_tuned/model.pt`. The
# paper's recipe, training on several GPUs and the recipe for JPEG-compressed scans are overlays too: see
# `bundles/iste/docs/README.md`.
