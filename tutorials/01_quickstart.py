# %% [markdown]
# # Quickstart: upscale an image by any factor
#
# Everything here runs offline on a CPU in under a minute. The image is the immunohistochemistry sample of scikit-image,
# a real slide image. It is reduced to half its size, because the full size shows JPEG blocks. Set `TILE` to use an
# image of your own. **Not for diagnosis**: super-resolved pixels are inferred, not measured.

# %%
import numpy as np
import torch
from monai.transforms import Compose
from PIL import Image
from skimage.data import immunohistochemistry
from skimage.metrics import peak_signal_noise_ratio

import monai_iste
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.metrics import get_protocol
from monai_iste.transforms import LoadRGBd, SuperResolved
from monai_iste.visualize import comparison, contact_sheet

TILE = None  # "tile.png", an image of your own

torch.manual_seed(0)
if TILE is None:
    sample = Image.fromarray(immunohistochemistry())
    tile = np.array(sample.resize((256, 256), Image.Resampling.BICUBIC))[152:248, 110:238]  # (H, W, 3), uint8
else:
    tile = np.array(Image.open(TILE).convert("RGB"))[:96, :128]  # a corner is enough here

# %% [markdown]
# ## Five lines
#
# The default network, `iste_light2`, comes with its weights. The factor can be any number from 1 upwards. Arrays,
# Pillow images and tensors are returned as the same type.

# %%
model = monai_iste.load("iste_light2")
upscaled = monai_iste.upscale(tile, scale=3.7, model=model)
print(tile.shape, "->", upscaled.shape)
assert upscaled.shape == (round(tile.shape[0] * 3.7), round(tile.shape[1] * 3.7), 3)
Image.fromarray(upscaled).save("quickstart_x3.7.png")

# %% [markdown]
# Left: the tile's own pixels. Right: super-resolved by 3.7.

# %%
size = upscaled.shape[1::-1]  # Pillow has (width, height)
own_pixels = Image.fromarray(tile).resize(size, Image.Resampling.NEAREST)
contact_sheet([{"the tile": own_pixels, "x3.7": Image.fromarray(upscaled)}])

# %% [markdown]
# ## Compare with the ground truth
#
# Reduce the tile under a named protocol, upscale it again, and compare the result with the ground truth and with
# bicubic interpolation. The picture shows input, bicubic, network and ground truth, then the errors of bicubic and
# network. Black means no error.

# %%
protocol = get_protocol("iste-rgb")  # Gaussian blur, then bicubic reduction; the paper's degradation
rows = []
for scale in (2.0, 3.0, 4.0):
    pair = protocol.preprocessing()({"image": np.ascontiguousarray(tile.transpose(2, 0, 1)), "scale": scale})
    pred = ArbitraryScaleInferer()(pair["image"][None], model, scale=scale)[0]
    scored = protocol.postprocessing()({**pair, "pred": pred})
    rows.append({**pair, **scored})
    truth = scored["label"].numpy()
    psnr = {k: peak_signal_noise_ratio(truth, scored[k].numpy(), data_range=1) for k in ("bicubic", "pred")}
    print(f"x{scale:g}: bicubic {psnr['bicubic']:.2f} dB, ISTE {psnr['pred']:.2f} dB")
    assert psnr["pred"] > psnr["bicubic"]

comparison(rows, window=72)

# %% [markdown]
# `monai-iste compare tile.png --scale 4 --degrade` draws the last row on the command line.
#
# ## A part of a large image
#
# The inferer works in windows, so memory does not grow with the image. A region has exactly the same pixels as in the
# whole output.

# %%
image = torch.from_numpy(tile).permute(2, 0, 1)[None] / 255
inferer = ArbitraryScaleInferer(window=32)
whole = inferer(image, model, scale=2.5)
part = inferer(image, model, scale=2.5, region=Region(top=100, left=60, height=50, width=80))
assert torch.equal(part, whole[:, :, 100:150, 60:140])

# %% [markdown]
# ## In a MONAI pipeline

# %%
Image.fromarray(tile).save("quickstart_tile.png")
chain = Compose([LoadRGBd("image"), SuperResolved("image", scale=2.5)])
print(tuple(chain({"image": "quickstart_tile.png"})["image"].shape))

# %% [markdown]
# Next: [a whole slide](02_whole_slide.md), or [a training on your own tiles](03_train_on_your_tiles.md).
