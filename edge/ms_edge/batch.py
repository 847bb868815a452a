"""Many files at once: results in the order of the inputs, however they end; no more in memory than is being worked on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 4  # files per job begun before the first of them has been written
POLL_S = 0.1  # how often who waits asks whether to stop


def usable_cores() -> int:
    """How many cores this process may use: its affinity, and the share of a container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def in_order(
    work: Callable[[Item], Result | None], items: Iterable[Item], jobs: int, stopped: Callable[[], bool]
) -> Generator[Result, None, None]:
    """Yield `work(item)` for every item, in their order, working on up to `jobs` at once in threads.

    Items are taken in a thread too: one that is slow to come delays no result of those before it. `stopped()` is asked before
    each is begun; once it is true nothing more is, and what was begun is finished and yielded, up to the first that gave None.
    With 0 jobs all is done in this thread, which costs no imports and no thread: for items that are at hand, one after another.
    """
    if jobs == 0:
        for item in items:
            if stopped() or (result := work(item)) is None:
                return
            yield result
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    begun: SimpleQueue[Future[Result | None] | None] = SimpleQueue()  # in their order; None: that was all
    room = threading.Semaphore(LOOK_AHEAD * jobs)
    ended = threading.Event()

    def begin(item: Item) -> Result | None:
        return None if ended.is_set() or stopped() else work(item)

    def take() -> None:
        try:
            for item in items:
                room.acquire()
                if ended.is_set():
                    return
                begun.put(pool.submit(begin, item))
            begun.put(None)
        except BaseException as error:  # for the one who waits for results
            failed: Future[Result | None] = Future()
            failed.set_exception(error)
            begun.put(failed)

    with ThreadPoolExecutor(jobs, thread_name_prefix="ms-edge") as pool:
        threading.Thread(target=take, name="ms-edge-inputs", daemon=True).start()
        try:
            while (future := _next(begun, stopped)) and (result := future.result()) is not None:
                yield result
                room.release()
        finally:
            ended.set()
            room.release()


def _next(
    begun: SimpleQueue[Future[Result | None] | None], stopped: Callable[[], bool]
) -> Future[Result | None] | None:
    while True:
        try:
            return begun.get(timeout=POLL_S)
        except Empty:
            if stopped():
                return None
