# %% [markdown]
# # A whole slide to 0.25 micrometers per pixel, and into QuPath
#
# Name a slide of your own in `SLIDE` (SVS, NDPI, MRXS, tiled TIFF, ...; OpenSlide's `CMU-1-Small-Region.svs` is a small
# real one). Without it a stand-in is made: scikit-image's sample at half its size, as if it had been scanned at 0.5 um
# per pixel, so that the truth is known. Needs the extra `slides`: `pip install -e ".[slides]"`. **Not for diagnosis**:
# magnified pixels are inferred, not measured.

# %%
from pathlib import Path

import numpy as np
import tifffile
from openslide import OpenSlide
from PIL import Image
from skimage.data import immunohistochemistry

import monai_iste
from monai_iste.inferers import Region
from monai_iste.slides import Slide, SlideJob, SlideMetadata, network_provenance, plan_slide, write_slide
from monai_iste.visualize import contact_sheet

SLIDE = None  # "slide.svs", a slide of your own

slide_file = SLIDE or "stand_in.ome.tiff"
if SLIDE is None and not Path(slide_file).exists():
    truth = Image.fromarray(immunohistochemistry())
    pixels = np.asarray(truth.resize((256, 256), Image.Resampling.BICUBIC))

    def read(region):
        return pixels[region.slices]

    half_micrometer = SlideMetadata(mpp=(0.5, 0.5), icc=None, provenance={})
    write_slide(slide_file, read, pixels.shape[:2], half_micrometer, work_dir=".", compression="lossless")

# %% [markdown]
# ## What the slide says about itself
#
# The pixel size is the vendor's, OME's or TIFF's, in this order, and never guessed: if nobody states it, `slide.mpp` is
# None, and you say it: `Slide(file, input_mpp=0.5)`.

# %%
slide = Slide(slide_file)
print(f"{slide.size} pixels (H, W), {slide.mpp} um/px (y, x) by {slide.mpp_source}, levels {slide.levels}")

# %% [markdown]
# Any region can be read at any pixel size: the best level is taken, and resampled without shift or aliasing.

# %%
overview = slide.read_at(slide.size_at(1.0), Region(0, 0, *slide.size_at(1.0)))
print("at 1.0 um/px:", overview.shape)
Image.fromarray(overview)

# %% [markdown]
# ## Plan, then work
#
# A plan fixes what comes out, to the last pixel; the job makes it. Here a part of the slide is enough; leave out
# `region` for all of it. On the command line the same is
#
#     monai-iste upscale slide.svs magnified.ome.tiff --mpp 0.25 --region 140,100,100,140 --consistency
#
# with `--resume` to go on after an interruption, `--tissue-only` to spare bare glass, and `--workers 4` for several
# processes ([scale out](08_scale_out.md)).

# %%
network = monai_iste.load("iste_light")
region = Region(top=140, left=100, height=100, width=140)  # in pixels of the slide
plan = plan_slide(slide, network, mpp=0.25, region=region)
print(f"x{plan.scale[0]:.3f}: {plan.region.height} x {plan.region.width} pixels in {len(plan.windows)} windows")

job = SlideJob(
    slide,
    Path("magnified.ome.tiff"),
    plan,
    network,
    network_provenance("iste_light"),
    compression="lossless",
    consistency=True,
    overwrite=True,
)
report = job.run()

# %% [markdown]
# ## Open it
#
# OpenSlide, QuPath (Bio-Formats) and tifffile see every level and the new pixel size.

# %%
with OpenSlide("magnified.ome.tiff") as result:
    print(result.level_dimensions, f"{float(result.properties['openslide.mpp-x']):.4f} um/px")
    assert abs(float(result.properties["openslide.mpp-x"]) - 0.25) < 0.001
    magnified = result.read_region((0, 0), 0, result.dimensions).convert("RGB")

# %% [markdown]
# **In QuPath**, drag `magnified.ome.tiff` into the window, or choose *File > Open*, and *Brightfield (H&E)* as the
# image type if it asks. QuPath reads the file through Bio-Formats. The pixel size in its OME-XML, 0.25 um, is what the
# *Image* tab shows and what cells and areas are measured with. Bio-Formats was run on files of this kind, QuPath itself
# was not. This is what they go by:

# %%
with tifffile.TiffFile("magnified.ome.tiff") as tiff:
    pixels_of = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    notes = tiff.ome_metadata
print({key: value for key, value in pixels_of.items() if key.startswith(("Size", "PhysicalSize"))})
assert abs(pixels_of["PhysicalSizeX"] - 0.25) < 0.001
assert "Not for diagnosis" in notes  # the file says of itself how it was made

# %% [markdown]
# ## Before and after
#
# The slide's own pixels, the result over the same place, and, of the stand-in, what was there before it was reduced. No
# result has all of that: what is between two pixels of the slide can only be guessed.

# %%
before = Image.fromarray(slide.read(region))
panels = {f"{slide.mpp[1]:.3g} um/px, as scanned": before, "0.25 um/px, inferred": magnified}
if SLIDE is None:
    x, y = plan.region.left, plan.region.top
    panels["0.25 um/px, the truth"] = truth.crop((x, y, x + magnified.width, y + magnified.height))
zoomed = {caption: panel.resize((420, 300), Image.Resampling.NEAREST) for caption, panel in panels.items()}
contact_sheet([zoomed])

# %% [markdown]
# ## How far to trust it
#
# The map beside the result (`magnified.consistency.png`) shows, block by block, how many 8-bit levels the result
# departs from the slide when it is reduced again. Bright blocks contradict what was scanned. Dark ones do not, which
# is necessary, not sufficient: what lies between the slide's pixels can be invented all the same.

# %%
print({key: round(report["consistency"][key], 2) for key in ("mean", "p95", "p99")})
assert report["consistency"]["mean"] < 8
Image.open("magnified.consistency.png")

# %% [markdown]
# ## A part has the pixels of the whole
#
# A region has exactly the pixels that a run over the whole slide would have put there: what you look at in a part today
# you find again in the slide tomorrow.

# %%
top, left, height, width = plan.region
if max(slide.size) < 400:
    whole = slide.read(Region(0, 0, *slide.size))
    whole = monai_iste.upscale(whole, size=plan.output, model=network)
    assert np.array_equal(np.asarray(magnified), whole[top : top + height, left : left + width])
slide.close()

# %% [markdown]
# More: [whole slides](../slides.md), and the other way to look at one, [the viewer](06_serve_and_view.md).
