"""Results in the order of the inputs, with a bounded number of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ms_edge.jobs.workers import Task, Workers
from ms_edge.results import Classification, Failure

Result = tuple[Classification, ...] | Failure | str  # a str is the record lines of an earlier run

LOOK_AHEAD = 4  # tasks per worker that are taken before the result of the first one is yielded
FINISHED_SHARE = 1 / 8  # of a task, for an input that needs no work
POLL_S = 0.1  # seconds between checks for a stop request


@dataclass(frozen=True)
class Finished:
    """An input whose result is known already."""

    result: Result


class InOrder:
    """Iterate over the results of `items`, in their order, computed by `workers`.

    `items` yields paths, `Finished` for a known result, and None if the next path has not arrived
    yet. In that case the descriptors `pending` become readable when it has. An exception that
    `items` raises, or that is the result of a path, is raised at its position.

    `share(path)` is the part of a task that a path makes up. Paths whose shares sum to at most 1
    become one task, and tasks become smaller towards the end, so that all workers finish at about
    the same time.

    `stopped()` is called before a task begins. If it returns true, no further task begins, and the
    iteration ends after the results of the tasks that have begun. `give_up(path)` is called while
    the next result is that of `path`. If it returns true, the iteration ends without that result.
    """

    def __init__(
        self,
        workers: Workers,
        items: Iterable[str | Finished | None],
        *,
        stopped: Callable[[], bool] = lambda: False,
        give_up: Callable[[str], bool] = lambda path: False,
        share: Callable[[str], float] = lambda path: 1.0,
        pending: Sequence[int] = (),
    ) -> None:
        self._workers, self._items, self._pending = workers, iter(items), pending
        self._stopped, self._give_up, self._share = stopped, give_up, share
        self._waiting: deque[tuple[int, str, float]] = deque()  # with number and share
        self._begun: Task = {}
        self._found: dict[int, Result | BaseException] = {}
        self._shares: deque[float] = deque()  # of the inputs that are taken and not yielded
        self._room = float(workers.count * LOOK_AHEAD or 1)
        self._taken = self._yielded = 0
        self._ended = self._blocked = self._stopping = False

    def __iter__(self) -> Iterator[Result]:
        while True:
            self._take()
            self._submit()
            if self._yielded in self._found:
                result = self._found.pop(self._yielded)
                if isinstance(result, BaseException):
                    raise result
                yield result
                self._yielded += 1
                self._room += self._shares.popleft()
                continue
            if not self._begun and (self._stopping or self._ended or self._stopped()):
                return
            if self._yielded in self._begun and self._give_up(self._begun[self._yielded]):
                return
            found = self._workers.collect(POLL_S, self._pending if self._blocked else ())
            self._found |= found
            for number in found:
                del self._begun[number]

    def _take(self) -> None:
        """Take inputs while there is room for them and the next one has arrived."""
        self._blocked = False
        while self._room > 0 and not (self._ended or self._stopping or self._blocked):
            try:
                item = next(self._items)
            except StopIteration:
                self._ended = True
            except BaseException as error:
                self._ended = True
                self._add(FINISHED_SHARE, error)
            else:
                if item is None:
                    self._blocked = True
                elif isinstance(item, Finished):
                    self._add(FINISHED_SHARE, item.result)
                else:
                    share = self._share(item)
                    self._waiting.append((self._taken, item, share))
                    self._add(share)

    def _add(self, share: float, *result: Result | BaseException) -> None:
        """Count a taken input, and store its result if it is known."""
        self._found.update((self._taken, known) for known in result)
        self._shares.append(share)
        self._room -= share
        self._taken += 1

    def _submit(self) -> None:
        """Make tasks of waiting paths for the workers that can begin at once."""
        while self._waiting and self._workers.ready:
            if self._stopped():
                self._stopping = True
                self._waiting.clear()
                return
            most = -(-len(self._waiting) // (2 * max(self._workers.count, 1)))
            number, path, together = self._waiting.popleft()
            task = {number: path}
            while len(task) < most and (together := together + self._waiting[0][2]) <= 1:
                number, path, _ = self._waiting.popleft()
                task[number] = path
            self._begun |= task
            self._workers.submit(task)
