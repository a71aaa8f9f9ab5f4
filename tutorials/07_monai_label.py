# %% [markdown]
# # MONAI Label: request super-resolution from a server
#
# [MONAI Label](https://github.com/Project-MONAI/MONAILabel) serves models over HTTP to viewers and scripts. The app in
# `monai_iste.label` adds super-resolution of a study, or of a region of a slide. Clients do not need this package: the
# file `monai_iste/label/client.py` uses the standard library only, and curl works too. **Not for diagnosis**:
# super-resolved pixels are inferred, not measured.
#
# MONAI Label requires older packages, so the server has a separate environment ([how to make it](../label.md)). Set the
# environment variable `LABEL_PYTHON` to its Python. Otherwise the Python of this tutorial is used.

# %%
import io
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image
from skimage.data import immunohistochemistry

import monai_iste
from monai_iste.label.client import infer
from monai_iste.visualize import contact_sheet

STUDIES = None  # "my_studies", a folder of images and slides of your own; a study named tile is asked for below

server_python = os.environ.get("LABEL_PYTHON", sys.executable)
studies = Path(STUDIES or "studies")
if STUDIES is None:
    studies.mkdir(exist_ok=True)
    tile = Image.fromarray(immunohistochemistry()).resize((256, 256), Image.Resampling.BICUBIC)
    tile.save(studies / "tile.png")

# %% [markdown]
# ## Start the server
#
# In a terminal, in the separate environment (Ctrl-C stops it):
#
#     python -m monai_iste.label studies --port 8000
#
# It listens on this machine only. Here it is started on a free port:

# %%
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
address = f"http://127.0.0.1:{port}"
command = [server_python, "-m", "monai_iste.label", str(studies), "--port", str(port)]
environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # Jupyter's own
log = Path("server.log")
with log.open("w") as file:
    server = subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def is_ready():
    try:
        return urlopen(f"{address}/info/").status == 200
    except OSError:
        return False


while not is_ready():
    assert server.poll() is None, log.read_text()[-2000:]  # is MONAI Label installed for this Python?
    time.sleep(0.5)
print("the server is ready")

# %% [markdown]
# ## Request a study
#
#     python -m monai_iste.label.client http://127.0.0.1:8000 tile --scale 2.5 --out tile_x2.5.png
#
# The name of a study is its file name without the suffix. In Python:

# %%
response = infer(address, "tile", {"scale": 2.5, "device": "cpu"})
whole = Image.open(io.BytesIO(response.image)).convert("RGB")
print(whole.size)
for key in ("scale", "result_size"):
    print(f"{key}: {response.params.get(key)}")
if STUDIES is None:
    assert whole.size == (640, 640)

# %% [markdown]
# The response includes a record of how the image was made, and that its pixels are inferred:

# %%
for key in ("software", "preset", "notice"):
    print(f"{key}: {response.params['provenance'][key]}")
assert "Not for diagnosis" in response.params["provenance"]["notice"]

# %% [markdown]
# ## Request a region
#
# Location and size are x, y and width, height in the study's own pixels. Only this part of a slide is read.
#
#     python -m monai_iste.label.client http://127.0.0.1:8000 tile --scale 3.7 --location 120 150 --size 80 80 \
#         --out region.png

# %%
response = infer(address, "tile", {"scale": 3.7, "location": [120, 150], "size": [80, 80], "device": "cpu"})
region = Image.open(io.BytesIO(response.image)).convert("RGB")
print(region.size)
own = Image.open(studies / "tile.png").crop((120, 150, 200, 230)) if STUDIES is None else region
contact_sheet([{"the study": own.resize(region.size, Image.Resampling.NEAREST), "x3.7": region}])

# %% [markdown]
# The whole study super-resolved has the same pixels there. With other versions of PyTorch
# pixels may differ by one 8-bit level:

# %%
if STUDIES is None:
    expected = monai_iste.upscale(np.asarray(tile), scale=3.7)
    (x, y), (width, height) = response.params["result_location"], response.params["result_size"]
    difference = np.abs(expected[y : y + height, x : x + width].astype(int) - np.asarray(region))
    print("largest difference, in levels:", int(difference.max()))
    assert difference.max() <= 1

# %% [markdown]
# ## Errors
#
# An invalid request gives a one-sentence error:

# %%
for study, params in (("nobody", {}), ("tile", {"scale": 0.5})):
    try:
        infer(address, study, params)
    except ConnectionError as error:
        print(error)
    else:
        raise AssertionError("it should have been refused")

# %% [markdown]
# ## Stop the server

# %%
server.terminate()
server.wait()
print("the server has ended")

# %% [markdown]
# More: regions of slides, all studies at once, QuPath, and training on the studies: [MONAI Label](../label.md).
