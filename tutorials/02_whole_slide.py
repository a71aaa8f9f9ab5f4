# %% [markdown]
# # A whole slide to 0.25 micrometres per pixel
#
# Set `SLIDE` to a slide of your own (SVS, NDPI, MRXS, tiled TIFF, ...; OpenSlide's `CMU-1-Small-Region.svs` is a small
# real one). Without it a stand-in is made from scikit-image's sample, with a pixel size that is set by hand. Needs the
# extra `slides`: `pip install "monai_iste[slides]"`. **Not for diagnosis**: magnified pixels are inferred.

# %%
import os
from pathlib import Path

import numpy as np
import tifffile
from openslide import OpenSlide
from PIL import Image
from skimage.data import immunohistochemistry

import monai_iste
from monai_iste.inferers import Region
from monai_iste.slides import Slide, SlideJob, origin, plan_slide

slide_file = os.environ.get("SLIDE", "stand_in.tif")
if not os.path.exists(slide_file):
    pixels = immunohistochemistry()[:240, :320]
    with tifffile.TiffWriter(slide_file) as tiff:
        tiff.write(pixels, tile=(256, 256), photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER")

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
overview = slide.read_at(slide.size_at(4.0), 0, 0, *slide.size_at(4.0))
print("at 4 um/px:", overview.shape)

# %% [markdown]
# ## Plan, then work
#
# A plan fixes what comes out, to the last pixel; the job makes it. Here a part of the slide is enough; leave out
# `region` for all of it. On the command line the same is
#
#     monai-iste upscale slide.svs slide.ome.tiff --mpp 0.25 --region 60,80,100,140 --consistency
#
# with `--resume` to go on after an interruption, `--tissue-only` to spare bare glass, and `--workers 4` for several
# processes.

# %%
network = monai_iste.load("iste_light")
middle = slide.size[0] // 2, slide.size[1] // 2
region = Region(top=middle[0] - 50, left=middle[1] - 70, height=100, width=140)  # in pixels of the slide
plan = plan_slide(slide, network, mpp=0.25, region=region)
print(f"x{plan.scale[0]:.3f}: {plan.region.height} x {plan.region.width} pixels in {len(plan.windows)} windows")

job = SlideJob(
    slide,
    Path("magnified.ome.tiff"),
    plan,
    network,
    origin("iste_light"),
    compression="lossless",
    consistency=True,
    overwrite=True,
    tell=print,
)
report = job.run()

# %% [markdown]
# ## Open it
#
# OpenSlide, QuPath (Bio-Formats) and tifffile see every level and the new pixel size.

# %%
with OpenSlide("magnified.ome.tiff") as result:
    print(result.level_dimensions, result.properties["openslide.mpp-x"])
    assert abs(float(result.properties["openslide.mpp-x"]) - 0.25) < 0.001
    magnified = result.read_region((0, 0), 0, result.dimensions).convert("RGB")

# %% [markdown]
# A region has exactly the pixels that a run over the whole slide would have put there.

# %%
top, left, height, width = plan.region
context = np.ascontiguousarray(slide.read(0, 0, *slide.size).transpose(1, 2, 0)) if max(slide.size) < 400 else None
if context is not None:
    whole = monai_iste.upscale(context, size=plan.output, model=network)
    assert np.array_equal(np.asarray(magnified), whole[top : top + height, left : left + width])

# %% [markdown]
# ## Before and after
#
# Left the slide's own pixels, right the result, over the same place.

# %%
before = Image.fromarray(np.ascontiguousarray(slide.read(*region).transpose(1, 2, 0)))
picture = Image.new("RGB", (2 * magnified.width + 8, magnified.height), "white")
picture.paste(before.resize(magnified.size, Image.Resampling.NEAREST))
picture.paste(magnified, (magnified.width + 8, 0))
picture.save("before_after.png")

# %% [markdown]
# ## How far to trust it
#
# The map beside the result (`magnified.consistency.png`) shows, block by block, how many 8-bit levels the result
# departs from the slide when it is reduced again. Bright blocks contradict what was scanned. Dark ones do not, which
# is necessary, not sufficient: what lies between the slide's pixels can be invented all the same.

# %%
print({key: report["consistency"][key] for key in ("mean", "p95", "p99")})
assert report["consistency"]["mean"] < 8
