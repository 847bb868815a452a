"""Ray: start it on this machine or join a cluster, and keep it quiet."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from ms_edge.errors import DeviceError, first_line
from ms_edge.jobs.limits import usable_cores

# Of a cluster on this machine: paths and rows are small, and audio never lies in it.
OBJECT_STORE_BYTES = 256 << 20


def import_ray() -> Any:
    """Import Ray Data and return Ray. Raises DeviceError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # lines of its C++ code on standard error
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it asks to, in a warning
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DeviceError(
            "no-ray",
            f"An archive needs Ray ({first_line(error)}); install the extra `ray` (pip install 'ms-edge[cpu,ray]').",
        ) from None
    return ray


def joined(address: str | None, *, verbose: bool) -> Any:
    """Return Ray, connected to the cluster at `address`, or to a new one of this machine's cores.

    A connection that this process has already is used. Raises DeviceError if there is none.
    """
    ray = import_ray()
    level = logging.INFO if verbose else logging.ERROR
    if not verbose:
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(level)
        warnings.filterwarnings("ignore", module="ray")
    if not ray.is_initialized():
        own: dict[str, Any] = {
            "num_cpus": usable_cores(),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
        try:
            ray.init(
                address=address or "local",
                logging_level=level,
                log_to_driver=verbose,
                **({} if address else own),
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"The cluster at {address} cannot be joined" if address else "Ray cannot be started"
            raise DeviceError("no-ray", f"{where} ({first_line(error)}).") from None
    _quiet(ray, verbose)
    return ray


def _quiet(ray: Any, verbose: bool) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = verbose
    # An actor is given one task at a time: another could wait for hours behind a long recording. A
    # pool whose actors are all busy grows.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.99


def cpus(ray: Any) -> int:
    """Return the number of CPUs of the cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
