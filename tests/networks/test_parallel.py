"""Worker threads: results in order, one of PyTorch's threads each, errors, cancellation, shared blocks, bounds."""

import threading
import time

import pytest
import torch
from thread_counts import torch_threads
from torch import nn

from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.networks.parallel import map_in_order, share, worker_threads
from monai_iste.networks.runtime import at_precision


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("window")]


def small():
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_results_are_in_order(threads):
    def slower_first(number):
        time.sleep(0.02 / (number + 1))
        return number * number

    assert list(map_in_order(slower_first, range(9), threads)) == [n * n for n in range(9)]
    assert list(map_in_order(slower_first, [], threads)) == []
    assert not workers()


def test_every_worker_has_one_of_pytorchs_threads_and_so_has_the_caller_meanwhile():
    meet = threading.Barrier(3)

    def count(_):
        meet.wait(10)  # so that three workers take part
        return threading.get_ident(), torch.get_num_threads()

    with torch_threads(3):
        results = map_in_order(count, range(3), 3)
        seen = [next(results)]
        assert torch.get_num_threads() == 1
        seen += results
        assert torch.get_num_threads() == 3
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert len({ident for ident, _ in seen}) == 3
    assert {number for _, number in seen} == {1}
    assert later == [3]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_ends_the_work(threads):
    begun = []

    def fail(number):
        begun.append(number)
        if number == 2:
            raise OSError("no such window")
        return number

    received = []
    with torch_threads(3):
        with pytest.raises(OSError, match="no such window"):
            received.extend(map_in_order(fail, range(100), threads))
        assert torch.get_num_threads() == 3
    assert received == [0, 1]
    assert len(begun) < 20
    assert not workers()


def test_an_error_of_the_items_ends_the_work():
    def items():
        yield from range(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(map_in_order(lambda n: n, items(), 2))
    assert not workers()


def test_closing_drops_what_has_not_begun():
    begun = []

    def note(number):
        begun.append(number)
        time.sleep(0.01)
        return number

    results = map_in_order(note, range(100), 2)
    assert next(results) == 0
    results.close()
    count = len(begun)
    assert count < 10
    assert not workers()
    time.sleep(0.05)
    assert len(begun) == count


def test_a_check_is_called_while_a_result_is_awaited():
    """It ends the work before the item does, at the next block."""
    blocks, started = [], threading.Event()

    def block(number):
        blocks.append(number)
        started.set()
        time.sleep(0.02)

    def check():
        if started.is_set():
            raise TimeoutError("cancelled")

    began = time.monotonic()
    with pytest.raises(TimeoutError, match="cancelled"):
        list(map_in_order(lambda _: share(block, range(500)), [0], 2, check=check))
    assert time.monotonic() - began < 4  # all blocks take five seconds and more
    assert len(blocks) < 100


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_no_more_items_than_allowed_are_held(at_once):
    taken, finished = [], 0

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    for _ in map_in_order(lambda n: n, items(), 4, at_once):
        assert len(taken) - finished <= at_once
        time.sleep(0.005)
        finished += 1
    assert finished == 20


def test_blocks_are_shared_with_idle_workers():
    meet = threading.Barrier(3)
    done = []

    def block(number):
        if number < 3:
            meet.wait(10)  # breaks unless three workers take part
        done.append(number)

    list(map_in_order(lambda _: share(block, range(7)), [0], 3))
    assert sorted(done) == list(range(7))


def test_several_items_share_their_blocks_and_none_is_lost():
    def sum_of(number):
        parts = [0] * 50
        share(lambda k: parts.__setitem__(k, number), range(50))
        return sum(parts)

    for _ in range(5):
        assert list(map_in_order(sum_of, range(12), 4)) == [50 * n for n in range(12)]


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_an_error_in_any_block_ends_the_work(bad):
    def block(number):
        time.sleep(0.002)
        if number == bad:
            raise ValueError(f"block {number}")

    with pytest.raises(ValueError, match=f"block {bad}"):
        list(map_in_order(lambda _: share(block, range(7)), [0], 3))
    assert not workers()


def test_without_workers_blocks_run_one_after_the_other():
    done = []
    share(done.append, range(5))
    assert done == list(range(5))


def test_workers_and_helpers_compute_as_the_caller_would():
    modes, meet = [], threading.Barrier(2)

    def block(_):
        meet.wait(10)
        modes.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()))

    def compute(_):
        with torch.autocast("cpu", torch.bfloat16):
            share(block, range(2))
        modes.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()))

    with torch.no_grad():
        list(map_in_order(compute, [0], 2))
    assert modes == [(False, True, False)] * 2 + [(False, False, False)]
    modes.clear()
    with torch.inference_mode():
        list(map_in_order(compute, [0], 2))
    assert {mode[2] for mode in modes} == {True}


def test_only_networks_that_keep_no_state_get_workers():
    class Foreign(nn.Module):
        def forward(self, image, coord, cell):
            self.features = image  # which the next call would replace
            return image

    hooked, replaced, holder = small(), small(), nn.Sequential(Foreign())
    hooked.encoder.register_forward_hook(lambda *_: None)
    replaced.encoder.forward = lambda image: image
    with torch_threads(3):
        assert worker_threads(small()) == worker_threads(at_precision(small(), "bf16")) == 3
        assert [worker_threads(net) for net in (Foreign(), holder, hooked, replaced)] == [0, 0, 0, 0]
        assert worker_threads(small().to("meta")) == 0  # a device that is not the CPU
