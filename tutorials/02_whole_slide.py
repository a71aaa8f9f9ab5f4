# %% [markdown]
# # Super-resolve a whole slide to 0.25 micrometers per pixel, and open it in QuPath
#
# Set `SLIDE` to use a slide of your own (SVS, NDPI, MRXS, tiled TIFF, ...; OpenSlide's `CMU-1-Small-Region.svs` is a
# small real one). Otherwise a substitute is made: scikit-image's sample at half its size, with a stated pixel size of
# 0.5 um, so that the ground truth is known. Needs the extra `slides`: `pip install -e ".[slides]"`. **Not for
# diagnosis**: super-resolved pixels are inferred, not measured.

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

slide_file = SLIDE or "example.ome.tiff"
if SLIDE is None and not Path(slide_file).exists():
    truth = Image.fromarray(immunohistochemistry())
    pixels = np.asarray(truth.resize((256, 256), Image.Resampling.BICUBIC))

    def read(region):
        return pixels[region.slices]

    half_micrometer = SlideMetadata(mpp=(0.5, 0.5), icc=None, provenance={})
    write_slide(slide_file, read, pixels.shape[:2], half_micrometer, work_dir=".", compression="lossless")

# %% [markdown]
# ## Open a slide
#
# The pixel size is read from the vendor's metadata, OME or TIFF tags, in this order. It is never guessed: if the file
# does not state it, `slide.mpp` is None, and you give it: `Slide(file, input_mpp=0.5)`.

# %%
slide = Slide(slide_file)
print(f"{slide.size} pixels (H, W), {slide.mpp} um/px (y, x) by {slide.mpp_source}, levels {slide.levels}")

# %% [markdown]
# Any region can be read at any pixel size. The best level is chosen and resampled without shift or aliasing.

# %%
overview = slide.read_at(slide.size_at(1.0), Region(0, 0, *slide.size_at(1.0)))
print("at 1.0 um/px:", overview.shape)
Image.fromarray(overview)

# %% [markdown]
# ## Plan and run
#
# A plan determines the size of the output and its windows. A job computes it. Here a part of the slide is enough; leave
# out `region` for the whole slide. On the command line the same is
#
#     monai-iste upscale slide.svs super_resolved.ome.tiff --mpp 0.25 --region 140,100,100,140 --consistency
#
# with `--resume` to continue after an interruption, `--tissue-only` to interpolate the background, and `--workers 4`
# for several processes ([scale out](08_scale_out.md)).

# %%
network = monai_iste.load("iste_light2")
region = Region(top=140, left=100, height=100, width=140)  # in pixels of the slide
plan = plan_slide(slide, network, mpp=0.25, region=region)
print(f"x{plan.scale[0]:.3f}: {plan.region.height} x {plan.region.width} pixels in {len(plan.windows)} windows")

job = SlideJob(
    slide,
    Path("super_resolved.ome.tiff"),
    plan,
    network,
    network_provenance("iste_light2"),
    compression="lossless",
    consistency=True,
    overwrite=True,
)
report = job.run()

# %% [markdown]
# ## Open it
#
# OpenSlide, QuPath (Bio-Formats) and tifffile read all levels and the new pixel size.

# %%
with OpenSlide("super_resolved.ome.tiff") as result:
    print(result.level_dimensions, f"{float(result.properties['openslide.mpp-x']):.4f} um/px")
    assert abs(float(result.properties["openslide.mpp-x"]) - 0.25) < 0.001
    result_image = result.read_region((0, 0), 0, result.dimensions).convert("RGB")

# %% [markdown]
# **In QuPath**, drag `super_resolved.ome.tiff` into the window, or choose *File > Open*. Set the image type to
# *Brightfield (H&E)* if asked. QuPath reads the file through Bio-Formats. The pixel size in its OME-XML, 0.25 um, is
# shown in the *Image* tab and used for measurements. We tested Bio-Formats on such files, but not QuPath itself. This
# is the metadata that they read:

# %%
with tifffile.TiffFile("super_resolved.ome.tiff") as tiff:
    pixels_of = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    notes = tiff.ome_metadata
print({key: value for key, value in pixels_of.items() if key.startswith(("Size", "PhysicalSize"))})
assert abs(pixels_of["PhysicalSizeX"] - 0.25) < 0.001
assert "Not for diagnosis" in notes  # the file records how it was made

# %% [markdown]
# ## Before and after
#
# Left to right: the slide's own pixels, the result, and, for the substitute, the ground truth. The result cannot
# recover everything: detail between two pixels of the slide is estimated.

# %%
before = Image.fromarray(slide.read(region))
panels = {f"{slide.mpp[1]:.3g} um/px, as scanned": before, "0.25 um/px, inferred": result_image}
if SLIDE is None:
    x, y = plan.region.left, plan.region.top
    panels["0.25 um/px, the truth"] = truth.crop((x, y, x + result_image.width, y + result_image.height))
zoomed = {caption: panel.resize((420, 300), Image.Resampling.NEAREST) for caption, panel in panels.items()}
contact_sheet([zoomed])

# %% [markdown]
# ## Check the consistency
#
# The result and bicubic interpolation are reduced again and compared with the slide, block by block, in 8-bit levels.
# The map beside the result (`super_resolved.consistency.png`) shows by how much the result differs more: the excess
# over bicubic. Bright blocks contradict the scan. Dark blocks are as consistent with it as interpolation, which does
# not prove that their detail is right. In the report, `network` and `bicubic` are the mean differences of the two,
# `p95` and `p99` the excess that 95 and 99 of 100 blocks stay below. A negative excess is closer to the scan than
# interpolation.

# %%
print({key: round(report["consistency"][key], 2) for key in ("network", "bicubic", "p95", "p99")})
assert report["consistency"]["p99"] < 1
Image.open("super_resolved.consistency.png")

# %% [markdown]
# ## A part has the pixels of the whole
#
# A region has exactly the same pixels as in an output of the whole slide.

# %%
top, left, height, width = plan.region
if max(slide.size) < 400:
    whole = slide.read(Region(0, 0, *slide.size))
    whole = monai_iste.upscale(whole, size=plan.output, model=network)
    assert np.array_equal(np.asarray(result_image), whole[top : top + height, left : left + width])
slide.close()

# %% [markdown]
# More: [whole slides](../slides.md), and [the viewer](06_serve_and_view.md).
