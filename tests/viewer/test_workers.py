"""Worker pools: work in turn, a queue that ends, cancellation."""

import threading
import time

import pytest
from reference import assert_teaches

from monai_iste.errors import ConfigError
from monai_iste.viewer.workers import Cancelled, QueueFull, Task, WorkerPool


def test_work_is_done_in_turn_and_the_line_ends():
    pool, gate, done = WorkerPool(1, 2), threading.Event(), []
    first = pool.submit(lambda task: gate.wait(10))
    while pool.running == 0:
        time.sleep(0.001)
    waiting = [pool.submit(lambda task, n=n: done.append(n)) for n in range(2)]
    assert (pool.running, pool.queued) == (1, 2)
    with pytest.raises(QueueFull) as caught:
        pool.submit(done.append)
    assert_teaches(caught.value)
    gate.set()
    assert first.future.result(10)
    for task in waiting:
        task.future.result(10)
    assert done == [0, 1]
    assert (pool.running, pool.queued) == (0, 0)
    pool.close()


def test_newer_work_of_a_client_overtakes_its_older():
    pool, gate, stopped = WorkerPool(1, 9), threading.Event(), threading.Event()

    def run(task):
        while not gate.wait(0.01):
            try:
                task.check()
            except Cancelled:
                stopped.set()
                raise

    running = pool.submit(run, "one-1")
    while pool.running == 0:
        time.sleep(0.001)
    tasks = {token: pool.submit(lambda _: 7, token) for token in ("one-2", "two-1", "one-10", "other", "one-10")}
    pool.cancel_older(Task("one-10"))
    assert stopped.wait(10)
    with pytest.raises(Cancelled):
        running.future.result(10)
    assert tasks["one-2"].future.cancelled()
    gate.set()
    for token in ("two-1", "other", "one-10"):
        assert tasks[token].future.result(10) == 7
    pool.close()


def test_work_is_cancelled_by_its_token_and_leaves_room():
    pool, gate = WorkerPool(1, 1), threading.Event()
    pool.submit(lambda task: gate.wait(10))
    while pool.running == 0:
        time.sleep(0.001)
    waiting = pool.submit(lambda task: 1, "a-1")
    assert pool.cancel("a-2") == 0
    assert pool.cancel("a-1") == 1
    assert waiting.future.cancelled()
    again = pool.submit(lambda task: 2)
    gate.set()
    assert again.future.result(10) == 2
    pool.close()


@pytest.mark.parametrize("token", ["", "a b", "a/b", "ü", "x" * 81])
def test_tokens_that_are_none(token):
    with pytest.raises(ConfigError) as caught:
        Task(token)
    assert_teaches(caught.value)
