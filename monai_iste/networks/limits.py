"""How much is computed at once, and which way: neither changes a result beyond rounding.

They have a module of their own because TorchScript reads constants from imported modules, not from its own globals.
"""

PIXELS_ATTENDED = 2**12  # that a transformer's layer holds at once, when no gradients are kept
PIXELS_FUSED = 2**13  # low-resolution pixels of a grid that are brought to the decoders' width at once
NUMBERS_DECODED = 2**20  # of a decoder's hidden layer in one strip (4 MiB, about a cache), when no gradients are kept
GRID_COLUMNS = 1024  # of a grid's rows at the most in one strip
QUERIES_COMPARED = 512  # times KEYS_COMPARED: one block of similarities, 4 MiB an image
KEYS_COMPARED = 2048

#: False forces the reference, which the tests compare with the paper: no use of regular grids, no kernel of our own,
#: PyTorch's linear layers.
FAST_PATHS = True
