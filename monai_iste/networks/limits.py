"""How much is computed at once: bounds on memory, which never change a result.

They have a module of their own because TorchScript reads constants from imported modules, not from its own globals.
"""

QUERIES_DECODED = 8192  # coordinates that become colours in one strip, when no gradients are kept
QUERIES_COMPARED = 2048  # times KEYS_COMPARED: one block of similarities, 16 MiB an image
KEYS_COMPARED = 2048
