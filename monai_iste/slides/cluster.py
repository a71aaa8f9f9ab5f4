"""Computation of windows on several processes or machines, with Dask (extra ``distributed``).

A window is a task that can be repeated: a worker reads its part of the slide, computes it and writes its chunks into
the work folder. Every worker must see slide and work folder under the same path. Only the process that started the
work writes the ledger. The unfinished windows of a killed worker are given to others.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_iste.errors import ConfigError, DataError, require_extra
from monai_iste.networks.parallel import map_in_order, worker_threads
from monai_iste.slides.compute import Progress, compute_window, read_window
from monai_iste.slides.plan import SlidePlan, Window
from monai_iste.slides.reader import Slide
from monai_iste.slides.source import Source
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.window_arrays import Key
from monai_iste.slides.window_store import WindowStore

_QUEUED = 4  # windows queued per thread of the cluster, so that none waits and few are lost

#: Number of times that a window may lose its worker before the job fails; Dask's default of three is too few.
_LOSSES = 20


@contextmanager
def cluster_client(
    workers: int | None = None, scheduler: str | None = None, threads: int | None = None
) -> Iterator[Any]:
    """Open a Dask client, of a new local cluster or of a running scheduler.

    Args:
        workers: number of processes on this machine; with several GPUs, one per GPU.
        scheduler: address of a running scheduler, such as ``tcp://10.0.0.5:8786``.
        threads: CPU threads of each process; default: those of this machine, divided by ``workers``.
    Raises:
        ConfigError: the extra is missing, or no scheduler runs at the address.
    """
    distributed = require_extra("distributed", "distributed")
    dask = require_extra("dask", "distributed")
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout="10s")
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                "the address of a Dask scheduler that runs", f"{scheduler} ({error})", "Start one: dask scheduler."
            ) from error
        with client:
            yield client
        return
    threads = threads or max(1, torch.get_num_threads() // (workers or 1))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": _LOSSES}),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            env={"OMP_NUM_THREADS": str(threads)},
            silence_logs="ERROR",
            preload=__name__,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C in the workers of a local cluster (Dask calls this at their start): their parent ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def compute_windows_on(
    client: Any,
    device: str,
    store: WindowStore,
    windows: Iterable[Window],
    slide: Slide,
    network: nn.Module,
    mask: TissueMask | None,
    progress: Progress,
) -> None:
    """Compute windows on a cluster, as :func:`~monai_iste.slides.compute.compute_windows` does in one process.

    Args:
        client: a ``distributed.Client``.
        device: device of the workers; in a local cluster with several GPUs, each worker uses its own.
    """
    distributed = require_extra("distributed", "distributed")
    path = slide.path.resolve()
    (job,) = client.scatter([(store.plan, path, store.path.resolve(), network.cpu(), mask)], broadcast=True, hash=False)
    waiting = (window.key for window in windows)

    def submit(key: Key) -> Any:
        return client.submit(_task, job, key, device, pure=False, retries=2)

    workers = max(1, sum(client.nthreads().values()))
    first = [submit(key) for _, key in zip(range(_QUEUED * workers), waiting, strict=False)]
    queue = distributed.as_completed(first)
    with store.committing():
        for future in queue:
            try:
                key, checksum = future.result()
            except distributed.KilledWorker as error:
                raise DataError(
                    "workers that stay alive", str(error), "See their logs (memory?), then run again with --resume."
                ) from error
            store.enter(key, checksum)
            progress(store.plan.window(key))
            for following in waiting:
                queue.add(submit(following))
                break


def _task(job: tuple[SlidePlan, Path, Path, nn.Module, TissueMask | None], key: Key, device: str) -> tuple[Key, int]:
    """Compute a window on a worker and write its chunks; may be repeated."""
    plan, path, folder, network, mask = job
    network.to(_own_device(device)).eval()
    window = plan.window(key)
    try:
        pixels = read_window(_slide(path, Source(path).version), window)
    except DataError:  # after which a slide reads nothing more until it is opened again
        _slide.cache_clear()
        raise
    threads = worker_threads(network)  # which share the blocks of the window
    (output,) = map_in_order(lambda pixels: compute_window(plan, network, pixels, mask, window), [pixels], threads)
    return key, WindowStore(folder, plan).write(window, output)


def _own_device(device: str) -> str:
    """Choose GPU i for worker i of a local cluster; elsewhere the machines' scheduler assigns GPUs."""
    if device != "cuda" or torch.cuda.device_count() < 2:
        return device
    name = require_extra("distributed", "distributed").get_worker().name
    return f"cuda:{name % torch.cuda.device_count()}" if isinstance(name, int) else device


@lru_cache(maxsize=2)
def _slide(path: Path, version: str) -> Slide:
    """Open a slide once per worker; a file that was replaced is opened again."""
    return Slide(path)
