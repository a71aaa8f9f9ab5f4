# %% [markdown]
# # Run a network trained at 40x on a slide at 10x
#
# A network learns nuclei of a certain size in pixels. On a coarser slide they are smaller, and it misses many. This
# tutorial trains a small MONAI network at 0.25 micrometers per pixel and runs it on a slide of 1.0 um. A reader between
# them presents the slide at 0.25 um. Needs the extra `slides`: `pip install -e ".[slides]"`. **Not for diagnosis**: the
# pixel size is right, the detail is estimated.

# %%
import numpy as np
import torch
from monai.data import SlidingPatchWSIDataset, WSIReader
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, ScaleIntensityRanged
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2hed
from skimage.data import immunohistochemistry

from monai_iste.slides import SlideMetadata, SuperResolvedWSIReader, write_slide
from monai_iste.transforms import SuperResolveToMppd
from monai_iste.visualize import contact_sheet

SLIDE = None  # "10x.svs", a slide of your own that states its pixel size

torch.manual_seed(0)
sample = immunohistochemistry()  # taken as 0.25 um per pixel
learned, unseen = sample[:256], sample[256:]

# %% [markdown]
# ## Train a network at 0.25 um
#
# Its task is to segment nuclei. The labels are computed by a formula, so that no annotations are needed: spots of
# hematoxylin some pixels wide. A MONAI U-Net learns it from the upper half of the image.


# %%
def nuclei(rgb):
    """Label pixels with more hematoxylin than their surroundings: (H, W, 3) -> (H, W), 0 or 1."""
    blue = rgb2hed(rgb)[..., 0]
    return (gaussian_filter(blue, 1.5) - gaussian_filter(blue, 6) > 0.008).astype(np.float32)


network = BasicUNet(2, in_channels=3, out_channels=1, features=(8, 8, 16, 16, 16, 8), norm="batch")
optimizer = torch.optim.Adam(network.parameters(), 0.01)
image = torch.from_numpy(learned.transpose(2, 0, 1).copy()) / 255
target = torch.from_numpy(nuclei(learned))[None]
random = np.random.default_rng(0)
for _ in range(100):
    corners = [(random.integers(0, 129), random.integers(0, 385)) for _ in range(2)]
    crops, targets = (
        torch.stack([whole[:, y : y + 128, x : x + 128] for y, x in corners]) for whole in (image, target)
    )
    loss = torch.nn.functional.binary_cross_entropy_with_logits(network(crops), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
network.eval()


def find(patch):
    """Segment nuclei: (3, H, W) in [0, 1] -> (H, W), 0 or 1."""
    with torch.no_grad():
        return (network(patch[None].as_subclass(torch.Tensor))[0, 0] > 0).float().numpy()


truth = nuclei(unseen)


def dice(found):
    return 2 * (found * truth).sum() / (found.sum() + truth.sum())


at_own_size = find(torch.from_numpy(unseen.transpose(2, 0, 1).copy()) / 255)
print(f"Dice at 0.25 um, on the other half: {dice(at_own_size):.2f}")

# %% [markdown]
# ## Make a slide at 1.0 um
#
# The slide is the other half of the image, as a scanner with a 10x objective would produce it: four times smaller along
# each side.


# %%
def write(file, picture, mpp):
    """Write an image as a slide."""
    pixels = np.asarray(picture)

    def read(region):
        return pixels[region.slices]

    stated = SlideMetadata(mpp=(mpp, mpp), icc=None, provenance={})
    write_slide(file, read, pixels.shape[:2], stated, work_dir=".", compression="lossless", overwrite=True)


slide = SLIDE or "10x.ome.tiff"
if SLIDE is None:
    coarse = Image.fromarray(unseen).resize((128, 64), Image.Resampling.BICUBIC)
    write(slide, coarse, 1.0)

# %% [markdown]
# ## Read the slide without and with super-resolution
#
# The pipeline is MONAI's: patches of the slide, scaled to [0, 1]. Only the reader differs. `SuperResolvedWSIReader`
# presents the slide as if it had been scanned at 0.25 um. In a bundle's configuration it is
# `{"_target_": "monai_iste.slides.SuperResolvedWSIReader", "mpp": 0.25}`.

# %%
to_unit = ScaleIntensityRanged("image", a_min=0, a_max=255, b_min=0, b_max=1)


def patches_of(file, reader, patch_size):
    return SlidingPatchWSIDataset([{"image": file}], patch_size=patch_size, reader=reader, transform=to_unit)


without = patches_of(slide, WSIReader("openslide", level=0), 64)
with_reader = patches_of(slide, SuperResolvedWSIReader(mpp=0.25), 128)
for name, patches in (("without", without), ("with", with_reader)):
    print(f"{name:8}{len(patches)} patches of {tuple(patches[0]['image'].shape)}")

# %% [markdown]
# Inputs of the network. It was trained on nuclei of the size in the right image:


# %%
def to_picture(pixels):
    """Convert (3, H, W) in [0, 1] to an image."""
    return Image.fromarray((np.asarray(pixels) * 255).round().astype(np.uint8).transpose(1, 2, 0))


seen = {"without, 1.0 um": to_picture(without[0]["image"]), "with, 0.25 um": to_picture(with_reader[1]["image"])}
if SLIDE is None:
    seen["trained on, 0.25 um"] = Image.fromarray(unseen[:128, 128:256])
contact_sheet([{name: picture.resize((2 * 128, 2 * 128), Image.Resampling.NEAREST) for name, picture in seen.items()}])


# %%
def find_all(patches):
    """Segment the whole slide, patch by patch."""
    reader = patches.wsi_reader
    size = reader.get_size(reader.read(patches[0]["image"].meta["path"]), 0)
    found = np.zeros(size, np.float32)
    for item in patches:
        top, left = (int(n) for n in item["image"].meta["location"])
        prediction = find(item["image"])[: size[0] - top, : size[1] - left]
        found[top : top + prediction.shape[0], left : left + prediction.shape[1]] = prediction
    return found


found = {"without": np.kron(find_all(without), np.ones((4, 4))), "with": find_all(with_reader)}

# %% [markdown]
# ## Compare the results
#
# Bicubic interpolation to the right pixel size is the simplest alternative. The right size gives most of the gain. The
# contribution of estimated detail depends on the task. Measure it on your own task and slides before you rely on
# counts.

# %%
if SLIDE is None:
    write("bicubic.ome.tiff", coarse.resize((512, 256), Image.Resampling.BICUBIC), 0.25)
    found["bicubic"] = find_all(patches_of("bicubic.ome.tiff", WSIReader("openslide", level=0), 128))
    for name in ("without", "bicubic", "with"):
        print(f"{name:8}Dice {dice(found[name]):.2f}")
    assert dice(found["with"]) > dice(found["without"]) + 0.2

# %% [markdown]
# White: detected nuclei. Right: the labels.

# %%
maps = {"without": found["without"], "with": found["with"]}
if SLIDE is None:
    maps["the formula's answer"] = truth
contact_sheet(
    [{name: Image.fromarray((255 * map[:256, :384]).astype(np.uint8)).convert("RGB") for name, map in maps.items()}]
)

# %% [markdown]
# ## Data sets of patches
#
# For patches instead of slides, use the transform `SuperResolveToMppd` before the others. It reads the pixel size from
# the patch's metadata, or takes it from `source_mpp=1.0`. Each patch is upscaled separately, so adjacent patches may
# differ at their edges; with the reader they match.

# %%
chain = Compose([SuperResolveToMppd("image", mpp=0.25, size=(128, 128)), to_unit])
cut = SlidingPatchWSIDataset([{"image": slide}], patch_size=32, reader=WSIReader("openslide", level=0), transform=chain)
print(f"{len(cut)} patches of {tuple(cut[0]['image'].shape)}, {cut[0]['image'].meta['mpp']} um per pixel")
if SLIDE is None:
    difference = (cut[1]["image"] - with_reader[1]["image"]).abs()[:, 32:96, 32:96].mean() * 255
    print(f"center of a patch, mean difference to the reader: {difference:.2f} of 255 levels")
    assert difference < 2
