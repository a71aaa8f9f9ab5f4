"""Numbers of PyTorch's threads for a test, which starts and ends with one."""

from contextlib import contextmanager

import torch

COUNTS = (1, 2, 4, 8)


@contextmanager
def torch_threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
        assert torch.get_num_threads() == count  # the library leaves it as it was
    finally:
        torch.set_num_threads(before)
