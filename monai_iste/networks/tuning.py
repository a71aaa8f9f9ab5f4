"""How much is computed at once, and which way: neither changes a result beyond rounding.

They have a module of their own because TorchScript reads constants from imported modules, not from its own globals.
"""

MAX_ATTENTION_PIXELS = 2**12  # that a transformer's layer holds at once, when no gradients are kept
MAX_FUSION_PIXELS = 2**13  # low-resolution pixels of a grid that are brought to the decoders' width at once
MAX_DECODER_ELEMENTS = (
    2**20
)  # of a decoder's hidden layer in one strip (4 MiB, about a cache), when no gradients are kept
MAX_STRIP_COLUMNS = 1024  # of a grid's rows at the most in one strip
QUERY_CHUNK = 512  # times KEY_CHUNK: one block of similarities, 4 MiB an image
KEY_CHUNK = 2048

#: False forces the reference, which the tests compare with the paper: no use of regular grids, no kernel of our own,
#: PyTorch's linear layers.
FAST_PATHS = True
