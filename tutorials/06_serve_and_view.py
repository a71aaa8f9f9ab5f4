# %% [markdown]
# # Serve and view slides
#
# `monai-iste view slide.svs` opens a viewer in the browser ([its keys](../viewer.md)). Its server implements the
# [IIIF Image API](https://iiif.io/api/image/3.0/), so other programs can request any region at any scale. Here Python's
# standard library does. Set `SLIDES` to use your own slides. Needs the extras `viewer` and `slides`:
# `pip install -e ".[viewer,slides]"`. **Not for diagnosis**: super-resolved pixels are inferred, not measured.

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
# ## Start the server
#
# In a terminal (Ctrl-C stops it):
#
#     monai-iste view slide.svs more_slides/ --port 8765 --no-browser
#
# In Python it is an ASGI application. Here uvicorn runs it in a thread; port 0 selects a free port.

# %%
network = network_loader("iste_light2", None, "cpu", "fp32")  # loads the weights with the first request
about = {**network_provenance("iste_light2"), "device": "cpu"}
app = create_app(Viewer(Catalog(files), Renderer(network), about))
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
thread = threading.Thread(target=server.run, daemon=True)
thread.start()
while not server.started:
    time.sleep(0.05)
base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def fetch(address):
    """Request an address; return headers and bytes."""
    with urlopen(base + address) as response:
        return response.headers, response.read()


def fetch_image(address):
    headers, data = fetch(address)
    return headers, Image.open(io.BytesIO(data)).convert("RGB")


# %% [markdown]
# ## List the slides
#
# An id is derived from the file name. Only the given files are served.

# %%
slides = json.loads(fetch("/api/images")[1])
for slide in slides:
    print({key: slide[key] for key in ("id", "name", "width", "height", "mpp")})
name, (width, height) = slides[0]["id"], (slides[0]["width"], slides[0]["height"])

# %% [markdown]
# ## Request a region at an exact scale
#
# An IIIF address is `id/region/size/rotation/quality.format`. The region is `x,y,w,h` in pixels of the slide. The size
# is that of the response; `^` allows it to be larger than the region. Any factor works: 60 pixels become 222 at x3.7.
# Response headers describe the pixels.

# %%
headers, view = fetch_image(f"/iiif/{name}/130,165,60,60/^222,222/0/default.png")
for key in ("X-Region", "X-Scale", "X-Method", "X-Inferred", "X-Preset"):
    print(f"{key}: {headers[key]}")
assert view.size == (222, 222)
assert headers["X-Inferred"] == "true"

# %% [markdown]
# Up to the slide's own resolution nothing is inferred, and the headers say so:

# %%
headers, own = fetch_image(f"/iiif/{name}/130,165,60,60/60,60/0/default.png")
print("X-Method:", headers["X-Method"], "  X-Inferred:", headers["X-Inferred"])
assert headers["X-Inferred"] == "false"
contact_sheet([{"the slide's pixels": own.resize(view.size, Image.Resampling.NEAREST), "x3.7": view}])

# %% [markdown]
# `monai-iste upscale` writes the same pixels at the same scale and position:

# %%
if not SLIDES:
    whole = monai_iste.upscale(pixels, scale=3.7)
    x, y = round(130 * 3.7), round(165 * 3.7)
    assert np.array_equal(np.asarray(view), whole[y : y + 222, x : x + 222])

# %% [markdown]
# ## Ids that end in -sr
#
# Most IIIF clients never request more pixels than an image declares. For them every slide has two more ids: `<id>-sr`
# and `<id>-bicubic` declare eight times its width and height. Their pixels are super-resolved or interpolated. With the
# address of their `info.json`, any IIIF client zooms past the last level, tile by tile.

# %%
for ending in ("", "-sr", "-bicubic"):
    information = json.loads(fetch(f"/iiif/{name}{ending}/info.json")[1])
    print(f"{name + ending:18}{information['width']:6} x {information['height']}")
    assert information["width"] == width * (8 if ending else 1)

# %% [markdown]
# ## Open all slides in Mirador
#
# `/manifest.json` lists the slides for viewers of the [IIIF Presentation API](https://iiif.io/api/presentation/3.0/),
# such as Mirador. Each slide is a canvas with a choice of three images: its own pixels, super-resolved, bicubic. A
# Mirador on another port may read it if the server was started with `--allow-origin` and its address.

# %%
manifest = json.loads(fetch("/manifest.json")[1])
for canvas in manifest["items"]:
    print(canvas["label"]["none"][0], canvas["width"], "x", canvas["height"])
    for image in canvas["items"][0]["items"][0]["body"]["items"]:
        print("   ", image["label"]["en"][0], "-", image["width"], "x", image["height"])
assert len(manifest["items"]) == len(slides)

# %% [markdown]
# ## Compare with a curtain
#
# The same tile of both: 512 pixels of the 8x image at half size are a scale of 4. Left of the line it is bicubic, right
# of it super-resolved. The halves match, because both have the same grid.

# %%
place = f"{4 * width - 256},{4 * height + 128},1024,768/512,384/0/default.png"
sides = {ending: fetch_image(f"/iiif/{name}-{ending}/{place}") for ending in ("bicubic", "sr")}
for ending, (headers, _) in sides.items():
    print(f"{ending:8} X-Scale: {headers['X-Scale']}, X-Inferred: {headers['X-Inferred']}")
curtain = sides["bicubic"][1].copy()
curtain.paste(sides["sr"][1].crop((256, 0, 512, 384)), (256, 0))
ImageDraw.Draw(curtain).line([(256, 0), (256, 384)], fill="white", width=2)
contact_sheet([{"bicubic | super-resolved, x4": curtain}])

# %% [markdown]
# In the viewer, the key `c` draws this line, which can be dragged. `r` is a ruler, and `b` and `p` draw annotations,
# which are saved as GeoJSON for QuPath.
#
# ## Stop the server
#
# The server listens on this machine only and has no password. Keep it so, or put a proxy with authentication in front
# of it.

# %%
server.should_exit = True
thread.join()
