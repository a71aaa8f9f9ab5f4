"""Requests to the viewer, and the pixels that they should return."""

import http.client
import io
import time

import numpy as np
import torch
from PIL import Image
from slide_files import picture

import monai_iste
from monai_iste.functional import upscale_bands

PIXELS = picture(60, 75)
VIEW = {"x": 20.3, "y": 30.1, "w": 16.0, "h": 16.0, "width": 54, "height": 54}  # x3.37


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pixels(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))


def upscaled(weights, size):
    lr = torch.from_numpy(PIXELS).permute(2, 0, 1)
    bands = list(upscale_bands(lr, monai_iste.load("tiny", weights), size))
    return torch.cat(bands, dim=1).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body
