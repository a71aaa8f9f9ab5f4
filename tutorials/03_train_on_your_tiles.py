# %% [markdown]
# # Train on your own tiles
#
# One command trains, and the same command goes on after an interruption. Name a folder of yours in `TILES`; without it
# tiles are cut from scikit-image's sample. The lengths here, some tens of steps, are for trying: a training worth its
# electricity takes 500 steps and more (`max_epochs=10`, `steps_per_epoch=50`, which is the default). In a clone of the
# repository: `pip install -e .`

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
#       train/   a.png b.png ...    learned from
#       val/     c.png ...          scored while it trains; says which weights are kept as the best
#       test/    d.png ...          scored by you, once, at the end
#
# PNG, JPEG, BMP, TIFF, of any size from 128 x 128 (`lr_size` times `max_scale`). If there are no such folders, one in
# ten images is kept for validation. Split by patient, not by tile: neighbors know too much about each other. Tiles
# should be sharp: they are the truth that the network learns to guess.

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
# Of these settings only `--dataset_dir` is needed. `monai.bundle.run` is what the command calls:

# %%
short = {"dataset_dir": tiles, "val_crop": 128, "batch_size": 4, "steps_per_epoch": 10, "num_workers": 0}
logging.disable(logging.WARNING)  # MONAI's dated lines
run("training", config_file=str(bundle / "train.json"), output_dir="trained", max_epochs=2, **short)

# %% [markdown]
# **The table.** Images of `val/` were reduced, magnified again and compared with the truth: `bicubic` is interpolation,
# `iste_step0` the network before its first step, `iste` now. `gain` is the difference to bicubic. After 20 steps from
# nothing a network has barely caught up with interpolation; after 500 it is ahead (the README's first command).
#
# What lies in `trained`:

# %%
print(*sorted(path.name for path in Path("trained").iterdir()), sep="\n")
assert Path("trained/model.pt").is_file()

# %% [markdown]
# ## Go on
#
# The same command again, after a power cut or with more epochs, goes on from the last complete epoch: weights,
# optimizer and schedule are in the checkpoint. Other settings in the same folder are refused; `--resume False` starts
# anew.

# %%
run("training", config_file=str(bundle / "train.json"), output_dir="trained", max_epochs=3, **short)
assert Path("trained/checkpoint_epoch=3.pt").is_file()

# %% [markdown]
# ## Fine-tune, with an overlay
#
# A short training goes further from the released weights (`--pretrained`) than from nothing. And what has no option of
# its own is changed by a second file, which holds what differs and nothing else. This one takes smaller steps and
# another loss, and scores at x3.7 too:

# %%
Path("mine.yaml").write_text(
    """\
learning_rate: 0.0002
loss: {_target_: torch.nn.SmoothL1Loss, beta: 0.1}
scales: [2, 3.7]
"""
)
shutil.copy(bundle / "models" / "iste_light.safetensors", "iste_light.safetensors")
settings = {"output_dir": "fine_tuned", "pretrained": "iste_light.safetensors", "max_epochs": 2}
run("training", config_file=[str(bundle / "train.json"), "mine.yaml"], **settings, **short)

# %% [markdown]
# In a terminal:
#
#     python -m monai.bundle run training --config_file "['bundles/iste/train.json', 'mine.yaml']" --dataset_dir tiles \
#         --output_dir fine_tuned --pretrained bundles/iste/models/iste_light.safetensors
#
# `iste_step0` are the released weights now. Every training leaves a picture, `comparison.png`:

# %%
Image.open("fine_tuned/comparison.png")

# %% [markdown]
# ## Evaluate
#
# On tiles that nothing was chosen by:
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
# `evaluated/metrics.csv` has a line for each image, for statistics of your own:

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
model = monai_iste.load("iste_light", weights="fine_tuned/model.pt")
print(monai_iste.upscale(Image.new("RGB", (40, 30)), scale=2.5, model=model).size)

# %% [markdown]
# Or `monai-iste upscale slide.svs large.ome.tiff --mpp 0.25 --weights fine_tuned/model.pt`. The paper's recipe, several
# GPUs and the recipe for scans compressed to JPEG are overlays too: `bundles/iste/docs/README.md` lists them.
