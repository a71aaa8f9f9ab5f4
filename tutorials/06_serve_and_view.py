# %% [markdown]
# # Serve slides, and look at them
#
# `monai-iste view slide.svs` opens a viewer in the browser ([its keys](../viewer.md)). Behind it is a server that
# answers the [IIIF Image API](https://iiif.io/api/image/3.0/), so other programs can ask it for any place at any scale.
# Here the standard library does. Name your slides in `SLIDES`. Needs the extras `viewer` and `slides`:
# `pip install -e ".[viewer,slides]"`. **Not for diagnosis**: magnified pixels are inferred, not measured.

# %%
import io
import json
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import uvicorn
from PIL import Image, ImageDraw
from skimage.data import immunohistochemistry

import monai_iste
from monai_iste.slides import SlideMetadata, network_provenance, write_slide
from monai_iste.viewer.catalog import Catalog
from monai_iste.viewer.rendering import Renderer, network_loader
from monai_iste.viewer.server import Viewer, create_app
from monai_iste.visualize import contact_sheet

SLIDES = []  # ["slide.svs", "folder"], slides of your own

files = [Path(name) for name in SLIDES]
if not files:
    half = Image.fromarray(immunohistochemistry()).resize((256, 256), Image.Resampling.BICUBIC)
    pixels = np.asarray(half)

    def read(region):
        return pixels[region.slices]

    files = [Path("Gland 7.ome.tiff")]
    if not files[0].exists():
        half_micrometer = SlideMetadata(mpp=(0.5, 0.5), icc=None, provenance={})
        write_slide(files[0], read, pixels.shape[:2], half_micrometer, work_dir=".", compression="lossless")

# %% [markdown]
# ## Start it
#
# In a terminal, Ctrl-C ends it:
#
#     monai-iste view slide.svs more_slides/ --port 8765 --no-browser
#
# In Python it is an ASGI application like any other. Here uvicorn runs it in a thread; port 0 is whichever is free.

# %%
network = network_loader("iste_light", None, "cpu", "fp32")  # loads the weights when the first picture needs them
about = {**network_provenance("iste_light"), "device": "cpu"}
app = create_app(Viewer(Catalog(files), Renderer(network), about))
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
thread = threading.Thread(target=server.run, daemon=True)
thread.start()
while not server.started:
    time.sleep(0.05)
base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def ask(address):
    """An answer of the server: its headers and its bytes."""
    with urlopen(base + address) as answer:
        return answer.headers, answer.read()


def picture_of(address):
    headers, data = ask(address)
    return headers, Image.open(io.BytesIO(data)).convert("RGB")


# %% [markdown]
# ## What there is
#
# An id is made of the file's name; nothing but the named files is served.

# %%
slides = json.loads(ask("/api/images")[1])
for slide in slides:
    print({key: slide[key] for key in ("id", "name", "width", "height", "mpp")})
name, (width, height) = slides[0]["id"], (slides[0]["width"], slides[0]["height"])

# %% [markdown]
# ## A place at an exact scale
#
# An IIIF address is `id/region/size/rotation/quality.format`. The region is `x,y,w,h` in pixels of the slide, the size
# is that of the answer, and `^` allows it to be larger. Any factor will do: 60 pixels become 222 at x3.7. Headers say
# what the pixels are.

# %%
headers, view = picture_of(f"/iiif/{name}/130,165,60,60/^222,222/0/default.png")
for key in ("X-Region", "X-Scale", "X-Method", "X-Inferred", "X-Preset"):
    print(f"{key}: {headers[key]}")
assert view.size == (222, 222)
assert headers["X-Inferred"] == "true"

# %% [markdown]
# Up to the slide's own pixels nothing is inferred, and the answer says so:

# %%
headers, own = picture_of(f"/iiif/{name}/130,165,60,60/60,60/0/default.png")
print("X-Method:", headers["X-Method"], "  X-Inferred:", headers["X-Inferred"])
assert headers["X-Inferred"] == "false"
contact_sheet([{"the slide's pixels": own.resize(view.size, Image.Resampling.NEAREST), "x3.7": view}])

# %% [markdown]
# These are the pixels that `monai-iste upscale` writes at the same scale, at the same place of its grid:

# %%
if not SLIDES:
    whole = monai_iste.upscale(pixels, scale=3.7)
    x, y = round(130 * 3.7), round(165 * 3.7)
    assert np.array_equal(np.asarray(view), whole[y : y + 222, x : x + 222])

# %% [markdown]
# ## The ids that end in -sr
#
# Most IIIF clients never ask for more pixels than an image declares. For them every slide is there twice more:
# `<id>-sr` and `<id>-bicubic` declare eight times its width and height, and what is asked of them is super-resolved, or
# interpolated. So any IIIF client zooms past the last level, a tile at a time: give it the address of `info.json`.

# %%
for ending in ("", "-sr", "-bicubic"):
    information = json.loads(ask(f"/iiif/{name}{ending}/info.json")[1])
    print(f"{name + ending:18}{information['width']:6} x {information['height']}")
    assert information["width"] == width * (8 if ending else 1)

# %% [markdown]
# ## A curtain
#
# The same tile of both: 512 pixels of the magnified image at half its size are a magnification of 4. Left of the line
# bicubic, right of it super-resolved; they meet, because both lie on the same grid.

# %%
place = f"{4 * width - 256},{4 * height + 128},1024,768/512,384/0/default.png"
sides = {ending: picture_of(f"/iiif/{name}-{ending}/{place}") for ending in ("bicubic", "sr")}
for ending, (headers, _) in sides.items():
    print(f"{ending:8} X-Scale: {headers['X-Scale']}, X-Inferred: {headers['X-Inferred']}")
curtain = sides["bicubic"][1].copy()
curtain.paste(sides["sr"][1].crop((256, 0, 512, 384)), (256, 0))
ImageDraw.Draw(curtain).line([(256, 0), (256, 384)], fill="white", width=2)
contact_sheet([{"bicubic | super-resolved, x4": curtain}])

# %% [markdown]
# In the viewer `c` draws this line, and it can be dragged.
#
# ## End it
#
# The server listens on this machine alone, and has no password: keep it so, or put one before it.

# %%
server.should_exit = True
thread.join()
