"""Many files at once: results in the order of the inputs, however they end; no more in memory than is being worked on."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 4  # calls per job whose items have been taken before the result of the first of them has been
POLL_S = 0.1  # how often who waits asks whether to stop
JOBS_PER_CORE = 4  # more only take time to begin, also where files come from a slow network
OWN_DESCRIPTORS, JOB_DESCRIPTORS = 16, 4  # open files: of the whole process, and of each job


def usable_cores() -> int:
    """How many cores this process may use: its affinity, and the share of a container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def most_jobs() -> tuple[int, str]:
    """How many files this process should work on at once, at most, and the reason as a clause."""
    most, why = usable_cores() * JOBS_PER_CORE, f"more than {JOBS_PER_CORE} for each core take longer"
    with contextlib.suppress(ImportError):  # Windows
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max(1, (limit - OWN_DESCRIPTORS) // JOB_DESCRIPTORS)
        if limit != resource.RLIM_INFINITY and allowed < most:
            return allowed, f"this process may have only {limit} files open (ulimit -n)"
    return most, why


def in_order(
    work: Callable[[Sequence[Item]], Sequence[Result | Exception | None]],
    items: Iterable[Item],
    jobs: int,
    stopped: Callable[[], bool],
    share: Callable[[Item], float] = lambda item: 1.0,
) -> Generator[Result, None, None]:
    """Yield what `work` says of every item, in their order, working on up to `jobs` at once in threads.

    Items are taken in a thread too: one that is slow to come delays no result of those before it. `stopped()` is asked before
    any are begun; once it is true nothing more is, and what was begun is finished and yielded, up to the first that gave None.
    What is said to be an exception is raised in its place.
    `share` says which part of a call of `work` an item is: those at hand that are one together are given together, fewer
    towards the end, so that all threads end at once.
    With 0 jobs all is done in this thread, which costs no imports and no thread: for items that are at hand, one after another.
    """
    if jobs == 0:
        for item in items:
            if stopped() or (result := work([item])[0]) is None:
                return
            if isinstance(result, Exception):
                raise result
            yield result
        return
    batch = _Batch(work, items, jobs, stopped, share)
    workers = [threading.Thread(target=batch.work, name=f"ms-edge-{number}") for number in range(jobs)]
    taker = threading.Thread(target=batch.take, name="ms-edge-inputs", daemon=True)
    try:
        if threads := _started(workers[0]) and _started(taker):
            all(map(_started, workers[1:]))  # or as many as the system grants
            yield from batch.results()
    finally:
        batch.end()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if not threads:
        yield from in_order(work, items, 0, stopped)


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:  # the system grants no more threads
        return False
    return True


class _Batch(Generic[Item, Result]):
    """Items on their way: taken by one thread, worked on by some, their results yielded by whoever called."""

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception | None]],
        items: Iterable[Item],
        jobs: int,
        stopped: Callable[[], bool],
        share: Callable[[Item], float],
    ) -> None:
        self._work, self._items, self._jobs, self._stopped, self._share = work, items, jobs, stopped, share
        self._room = float(jobs * LOOK_AHEAD)  # for what is taken before something is yielded
        lock = threading.Lock()
        self._yielding, self._more, self._done = (threading.Condition(lock) for _ in range(3))
        self._waiting: deque[tuple[Item, float]] = deque()
        self._shares: deque[float] = deque()  # of all that is taken and not yielded
        self._found: dict[int, Result | BaseException | None] = {}
        self._taken = self._begun = self._yielded = 0
        self._last = self._ended = False  # no more items come; no more results are wanted

    def take(self) -> None:
        """Take items while there is room for them."""
        try:
            for item in self._items:
                share = self._share(item)
                with self._yielding:
                    while self._room <= 0 and not self._ended:
                        self._yielding.wait()
                    if self._ended:
                        return
                    self._waiting.append((item, share))
                    self._shares.append(share)
                    self._room -= share
                    self._taken += 1
                    self._more.notify()
        except BaseException as error:  # for the one who waits for results
            with self._yielding:
                self._found[self._taken] = error
        finally:
            with self._yielding:
                self._last = True
                self._more.notify_all()
                self._done.notify()

    def work(self) -> None:
        """Work on what waits until nothing more comes or is wanted."""
        while True:
            with self._more:
                while not (self._waiting or self._last or self._ended):
                    self._more.wait()
                if not self._waiting:
                    return
                first, group = self._begun, self._group()
                self._begun += len(group)
            found: Sequence[Result | BaseException | None]
            try:
                found = [None] * len(group) if self._ended or self._stopped() else self._work(group)
            except BaseException as error:
                found = [error]
            with self._done:
                self._found.update(enumerate(found, first))
                if first == self._yielded:
                    self._done.notify()

    def _group(self) -> list[Item]:
        most = -(-len(self._waiting) // (2 * self._jobs))
        item, together = self._waiting.popleft()
        group = [item]
        while len(group) < most and (together := together + self._waiting[0][1]) <= 1:
            group.append(self._waiting.popleft()[0])
        return group

    def results(self) -> Iterator[Result]:
        """Yield results as they come, in order."""
        while True:
            with self._done:
                while self._yielded not in self._found:
                    if self._yielded == self._taken and self._last:
                        return
                    if self._yielded < self._begun:
                        self._done.wait()
                    elif self._stopped():
                        return
                    else:
                        self._done.wait(POLL_S)
                result = self._found.pop(self._yielded)
            if isinstance(result, BaseException):
                raise result
            if result is None:
                return
            yield result
            with self._yielding:
                self._yielded += 1
                self._room += self._shares.popleft()
                if self._room >= self._jobs:  # not for each small item anew
                    self._yielding.notify()

    def end(self) -> None:
        """No more results are wanted."""
        with self._yielding:
            self._ended = True
            self._waiting.clear()
            self._yielding.notify()
            self._more.notify_all()
