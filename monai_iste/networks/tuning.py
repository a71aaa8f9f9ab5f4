"""Chunk sizes and the switch of the fast paths; neither changes a result beyond rounding.

They have a module of their own because TorchScript reads constants from imported modules, not from its own globals.
"""

#: Pixels that a transformer's layer processes at once without gradients.
MAX_ATTENTION_PIXELS = 2**12

#: Low-resolution pixels of a grid that are projected to the decoders' width at once.
MAX_FUSION_PIXELS = 2**13

#: Elements of a decoder's hidden layer in one strip without gradients: 4 MiB, about a cache.
MAX_DECODER_ELEMENTS = 2**20

#: Columns of a grid in one strip.
MAX_STRIP_COLUMNS = 1024

#: Queries times keys of one block of similarities: 4 MiB per image.
QUERY_CHUNK = 512
KEY_CHUNK = 2048

#: False selects the reference, which the tests compare with the paper: no fast path for regular grids, no Triton
#: kernel, PyTorch's linear layers.
FAST_PATHS = True
