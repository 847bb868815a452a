"""Many files at once: results in the order of the inputs, however they end; no more in memory than is being worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 4  # files per job begun before the first of them has been written


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
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int, stopped: Callable[[], bool]
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in their order, working on up to `jobs` at once in threads.

    `stopped()` is asked before each is begun; once it is true nothing more is, and what was begun is finished and yielded.
    """
    if jobs == 1:
        for item in items:
            if stopped():
                return
            yield work(item)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    def begin(item: Item) -> tuple[Result] | None:
        return None if stopped() else (work(item),)

    pending: deque[Future[tuple[Result] | None]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="ms-edge") as pool:
        try:
            for item in items:
                pending.append(pool.submit(begin, item))
                while pending and (pending[0].done() or len(pending) >= LOOK_AHEAD * jobs):
                    done = pending.popleft().result()
                    if done is None:  # begun in order: so nothing after it was begun either
                        return
                    yield done[0]
            while pending and (done := pending.popleft().result()) is not None:
                yield done[0]
        finally:
            for future in pending:
                future.cancel()
