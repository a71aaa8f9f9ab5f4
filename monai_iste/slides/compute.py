"""Computation of a slide's windows, one by one.

Every pixel comes from the canonical windows of :class:`~monai_iste.inferers.Tiler`. It does not depend on the order,
the region, the number of workers and threads, or interruptions, on one kind of device. Across devices it may differ by
one 8-bit level.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from monai_iste.inferers.tiling import windows_at_once
from monai_iste.networks.grid_sampling import bicubic_at, bicubic_on_grid
from monai_iste.networks.parallel import map_in_order, worker_threads
from monai_iste.slides.plan import SlidePlan, Window
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.window_store import WindowStore

_AHEAD = 2  # windows that are read ahead, and windows that wait to be written

Progress = Callable[[Window], None]


class Interpolation(nn.Module):
    """Bicubic interpolation, used for background windows.

    The kernel is that of the networks' bicubic residual, to which their output fades on flat areas. It differs from
    that of :class:`~monai_iste.networks.Bicubic`, which is Pillow's.

    Shape:
        image: (B, C, h, w); rows: (H,); columns: (W,); cell: not used; returns (B, C, H, W)

    Example:
        >>> rows, columns, cell = torch.zeros(2), torch.zeros(5), torch.ones(1, 2)
        >>> Interpolation().forward_grid(torch.ones(1, 3, 4, 4), rows, columns, cell).shape
        torch.Size([1, 3, 2, 5])
    """

    def forward(self, image: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Interpolate at coordinates (B, Q, 2); returns (B, Q, C)."""
        return bicubic_at(image, coord)

    def forward_grid(self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
        """Interpolate on a regular grid."""
        return torch.stack([bicubic_on_grid(one, rows, columns).permute(2, 0, 1) for one in image])


_INTERPOLATION = Interpolation()


def compute_window(
    plan: SlidePlan, network: nn.Module, pixels: np.ndarray, mask: TissueMask | None, window: Window
) -> Tensor:
    """Compute the weighted contribution of one window to the output.

    With a mask of weight t, the network's output N and bicubic interpolation B are blended: ``t N + (1 - t) B``. Where
    t is 0 in all of the window, the network does not run.

    Args:
        pixels: the slide in :attr:`Window.source`, see :func:`read_window`.
    Shape:
        pixels: (h, w, 3); returns (3, H, W).
    Units: pixels from 0 to 255; returns weighted intensities in [0, 1].
    """
    row, column = window
    cell = plan.tiler.cell(plan.size, plan.output, network)

    def output_of(model: nn.Module) -> Tensor:
        return plan.tiler.window_output(pixels, model, row, column, cell)

    if mask is None:
        return output_of(network)
    tissue = mask.weight(plan.positions(row, 0), plan.positions(column, 1))
    if not tissue.any():
        return output_of(_INTERPOLATION)
    if bool((tissue == 1).all()):
        return output_of(network)
    return tissue * output_of(network) + (1 - tissue) * output_of(_INTERPOLATION)


def read_window(slide: Slide, window: Window) -> np.ndarray:
    """Read the input of a window: (h, w, 3) uint8."""
    return slide.read(window.source)


def compute_windows(
    store: WindowStore,
    windows: Iterable[Window],
    slide: Slide,
    network: nn.Module,
    mask: TissueMask | None,
    progress: Progress,
) -> None:
    """Compute windows in this process, several at once; reading and writing run in threads of their own.

    Args:
        progress: called with every window that was entered into the ledger.
    """

    def keep(window: Window, output: Tensor) -> None:
        store.enter(window.key, store.write(window, output))
        progress(window)

    def compute(item: tuple[Window, np.ndarray]) -> tuple[Window, Tensor]:
        window, pixels = item
        return window, compute_window(store.plan, network, pixels, mask, window)

    windows, threads = list(windows), worker_threads(network)
    at_once = min((windows_at_once(*window, threads) for window in windows), default=1)
    with store.committing(), ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        written: deque[Future[None]] = deque()
        computed = map_in_order(compute, _read_ahead(slide, windows, reading), threads, at_once)
        try:
            for window, output in computed:
                written.append(writing.submit(keep, window, output))
                while len(written) > _AHEAD:
                    written.popleft().result()
            while written:
                written.popleft().result()
        except BaseException:  # such as Ctrl-C: what has not begun is dropped
            computed.close()
            for pool in (reading, writing):
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read_ahead(
    slide: Slide, windows: Iterable[Window], pool: ThreadPoolExecutor
) -> Iterator[tuple[Window, np.ndarray]]:
    waiting: deque[tuple[Window, Future[np.ndarray]]] = deque()
    for window in windows:
        waiting.append((window, pool.submit(read_window, slide, window)))
        if len(waiting) > _AHEAD:
            first, pixels = waiting.popleft()
            yield first, pixels.result()
    for first, pixels in waiting:
        yield first, pixels.result()
