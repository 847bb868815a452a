"""How many files to work on at once on this machine."""

from __future__ import annotations

import contextlib
import os

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
