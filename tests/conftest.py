"""Tests run on one thread each: several may share a machine, and small tensors gain nothing from more."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the commands that tests start

import torch

torch.set_num_threads(1)
