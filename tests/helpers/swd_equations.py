"""SWD-Net's equations, written out pixel by pixel in float64; arrays are (C, h, w)."""

import math

import numpy as np
import reference
from reference import part


def blocks_to_bands(x):
    c, h, w = x.shape
    bands = np.zeros((4 * c, h // 2, w // 2))
    for k in range(c):
        for i in range(h // 2):
            for j in range(w // 2):
                (p, q), (r, s) = x[k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                bands[k, i, j] = (p + q + r + s) / 2
                bands[c + k, i, j] = (p - q + r - s) / 2
                bands[2 * c + k, i, j] = (p + q - r - s) / 2
                bands[3 * c + k, i, j] = (p - q - r + s) / 2
    return bands


def bands_to_blocks(bands):
    """By the transform's matrix, solved for the block."""
    matrix = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    c, (h, w) = len(bands) // 4, bands.shape[1:]
    x = np.zeros((c, 2 * h, 2 * w))
    for k in range(c):
        for i in range(h):
            for j in range(w):
                x[k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = np.linalg.solve(matrix, bands[k::c, i, j]).reshape(2, 2)
    return x


def convolution(state, x, stride=1):
    """Zeros beyond the border; output pixel (i, j) is centered on input pixel (stride * i, stride * j)."""
    weight, bias = state["weight"], state["bias"]
    (_, h, w), (kh, kw) = x.shape, weight.shape[2:]
    out = np.zeros((len(weight), math.ceil(h / stride), math.ceil(w / stride)))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = bias
            for dy in range(kh):
                for dx in range(kw):
                    y, z = stride * i + dy - kh // 2, stride * j + dx - kw // 2
                    if 0 <= y < h and 0 <= z < w:
                        out[:, i, j] += weight[:, :, dy, dx] @ x[:, y, z]
    return out


def prelu(state, x):
    slope = state["weight"].reshape(-1, *[1] * (x.ndim - 1))
    return np.where(x > 0, x, slope * x)


def conv_prelu(state, x):
    return prelu(part(state, "1"), convolution(part(state, "0"), x))


def residual_block(state, x):
    y = convolution(part(state, "body.1"), conv_prelu(part(state, "body.0"), x))
    return prelu(part(state, "activation"), x + y)


def linear(state, name, x):
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def squeeze_excite(state, x):
    hidden = np.maximum(linear(state, "fc.0", x.mean((1, 2))), 0)
    return x * (1 / (1 + np.exp(-linear(state, "fc.2", hidden))))[:, None, None]


def adapted(state, x):
    hidden = prelu(part(state, "fc.1"), linear(state, "fc.0", x.mean((1, 2))))
    return x * np.tanh(linear(state, "fc.2", hidden))[:, None, None]


def fusion(state, backbone, bypass):
    _, h, w = backbone.shape
    pixels = [(i, j) for i in range(h) for j in range(w)]
    shares = reference.softmax([float(state["share.weight"][0, :, 0, 0] @ backbone[:, i, j]) for i, j in pixels])
    pooled = sum(share * bypass[:, i, j] for share, (i, j) in zip(shares, pixels, strict=True))
    context = reference.perceptron(reference.linear_layers(part(state, "context")), pooled)
    return squeeze_excite(part(state, "squeeze_excite"), backbone) + context[:, None, None]


def multi_path(state, x):
    kernels = {"along_x": (1, 3), "along_y": (3, 1), "diagonal": (3, 3)}
    out = conv_prelu(part(state, "approximation"), x)
    for path, kernel in kernels.items():
        assert state[f"{path}.0.0.weight"].shape[2:] == state[f"{path}.1.0.weight"].shape[2:] == kernel
        out = out + conv_prelu(part(state, f"{path}.1"), conv_prelu(part(state, f"{path}.0"), x))
    return out


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def spatial_module(state, x, blocks):
    fine, coarse = x, prelu(part(state, "halve.1"), convolution(part(state, "halve.0"), x, stride=2))
    for k in range(3):
        stage = part(state, f"rounds.{k}")
        for block in range(blocks):
            fine = residual_block(part(stage, f"fine.{block}"), fine)
            coarse = residual_block(part(stage, f"coarse.{block}"), coarse)
        up = convolution(part(stage, "to_fine"), coarse)
        bypass = np.array([[[u[i // 2, j // 2] for j in range(x.shape[2])] for i in range(x.shape[1])] for u in up])
        fused = leaky(fusion(part(stage, "fuse_fine"), fine, bypass))
        if k < 2:
            down = convolution(part(stage, "to_coarse"), fine, stride=2)
            coarse = leaky(fusion(part(stage, "fuse_coarse"), coarse, down))
        fine = fused
    return x + fine


def pixel_shuffle(x, scale):
    c, h, w = len(x) // scale**2, *x.shape[1:]
    out = np.zeros((c, h * scale, w * scale))
    for k, i, j in np.ndindex(out.shape):
        out[k, i, j] = x[k * scale**2 + (i % scale) * scale + j % scale, i // scale, j // scale]
    return out


def spatial_stage(state, image, scale, blocks):
    x = residual_block(part(state, "1"), conv_prelu(part(state, "0"), image))
    x = residual_block(part(state, "3"), conv_prelu(part(state, "2"), x))
    first = spatial_module(part(state, "4.first"), x, blocks)
    second = spatial_module(part(state, "4.second"), first, blocks)
    x = conv_prelu(part(state, "5"), np.concatenate([first, second]))
    x = pixel_shuffle(convolution(part(state, "6"), x), scale)
    x = conv_prelu(part(state, "9"), conv_prelu(part(state, "8"), x))
    return convolution(part(state, "10"), x)


def wavelet_stage(state, image):
    _, h, w = image.shape
    rows, columns = range(math.ceil(h / 4) * 4), range(math.ceil(w / 4) * 4)
    padded = np.array([[[c[min(i, h - 1), min(j, w - 1)] for j in columns] for i in rows] for c in image])
    fine = blocks_to_bands(padded)
    coarse = blocks_to_bands(fine)
    fine, coarse = adapted(part(state, "adapt_fine"), fine), adapted(part(state, "adapt_coarse"), coarse)
    for k in range(3):
        stage = part(state, f"rounds.{k}")
        fine = multi_path(part(stage, "fine.1"), multi_path(part(stage, "fine.0"), fine))
        coarse = multi_path(part(stage, "coarse.1"), multi_path(part(stage, "coarse.0"), coarse))
        fused = fusion(part(stage, "fuse_fine"), fine, bands_to_blocks(coarse))
        if k < 2:
            coarse = fusion(part(stage, "fuse_coarse"), coarse, blocks_to_bands(fine))
        fine = fused
    return bands_to_blocks(convolution(part(state, "closing"), fine))[:, :h, :w]


def interpolated(image, scale, bicubic):
    """Upsampled image and the gate of the stages' residuals; 1 without bicubic interpolation."""
    _, h, w = image.shape
    size = (h * scale, w * scale)
    if not bicubic:
        return np.array(
            [[[c[i // scale, j // scale] for j in range(size[1])] for i in range(size[0])] for c in image]
        ), 1
    contrasts = np.array([[reference.contrast(image, i, j) for j in range(w)] for i in range(h)])
    upsampled, gate = np.zeros((3, *size)), np.zeros(size)
    for (i, j), query in zip(np.ndindex(size), reference.grid(size), strict=True):
        upsampled[:, i, j] = reference.bicubic(image, query)
        gate[i, j] = sum(a.weight * contrasts[a.row, a.col] for a in reference.corners(query, (h, w)))
    return upsampled, gate


def swd_net(state, image, scale, bicubic, blocks=1):
    upsampled, gate = interpolated(image, scale, bicubic)
    spatial = upsampled + gate * spatial_stage(part(state, "spatial_stage"), image, scale, blocks)
    return spatial + gate * wavelet_stage(part(state, "wavelet_stage"), spatial), spatial
