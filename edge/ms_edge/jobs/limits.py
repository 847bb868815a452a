"""How many files to work on at once on this machine, and with how much memory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ms_edge.jobs.inputs import Inputs
    from ms_edge.jobs.progress import Progress

JOBS_PER_CORE = 4  # more workers only cost time to start, even if files come from a slow network
OWN_DESCRIPTORS, JOB_DESCRIPTORS = 16, 4  # open files of this process, and for each worker


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and container limit (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def most_jobs() -> tuple[int, str]:
    """Return the largest useful number of files to work on at once, and the reason as a clause."""
    most, why = usable_cores() * JOBS_PER_CORE, f"more than {JOBS_PER_CORE} for each core take longer"
    with contextlib.suppress(ImportError):  # Windows
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max(1, (limit - OWN_DESCRIPTORS) // JOB_DESCRIPTORS)
        if limit != resource.RLIM_INFINITY and allowed < most:
            return allowed, f"this process may have only {limit} files open (ulimit -n)"
    return most, why


def workers_for(asked: int | None, inputs: Inputs, count: int | None, progress: Progress) -> int:
    """Return the number of workers for `count` inputs (None: unknown); 0 to do without them.

    `asked` is the number that the user wants; a smaller one is reported.
    """
    jobs = asked or usable_cores()
    jobs = jobs if count is None else min(jobs, count)
    most, why = most_jobs()
    if jobs > most:
        given = f"-j {asked}: " if asked else ""
        say = progress.complain if asked else progress.tell
        say(f"{given}working on {most} file{'' if most == 1 else 's'} at once: {why}.")
        jobs = most
    # One file needs no worker, unless this process may wait for standard input when an interrupt
    # comes. Several do even with one core: only a worker that crashes or hangs costs a single file.
    return 0 if 1 in (asked, count) and not inputs.may_wait() else jobs


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory instead of returning it to the system.

    glibc returns blocks of more than 128 kB and fetches them again, with one page fault per page,
    until a block of up to 32 MB has been freed (`mallopt(3)`, M_MMAP_THRESHOLD). For an hour of
    audio that takes as long as the front end. The block below is never touched, so it uses no memory.
    """
    import numpy as np

    with contextlib.suppress(MemoryError):  # it only saves time
        np.empty((32 << 20) - 8192, np.uint8)
