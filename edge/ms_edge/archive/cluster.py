"""Ray: start it on this machine or join a cluster, keep it quiet, and ask it for its CPUs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ms_edge.errors import DeviceError, UsageError, first_line, reason
from ms_edge.jobs.limits import usable_cores

# Of a cluster on this machine: paths and rows are small, and audio never lies in it.
OBJECT_STORE_BYTES = 256 << 20
# Actors in a row that may end before they have loaded their model, as on a node that is lost. Each
# takes seconds, and a node that lacks a package ends them all.
LOST_STARTS = 2
CONNECT_S = 7.0  # for a cluster to accept a connection, and again for each part of its answer
# What a client of HTTP/2, and so of gRPC, sends first: the preface and an empty frame SETTINGS (RFC
# 9113, 3.4). A server sends SETTINGS, too: the fourth byte of a frame is its type, and that is 4.
HELLO, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 4


def import_ray() -> Any:
    """Import Ray Data and return Ray. Raises DeviceError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it asks to, in a warning
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise no_ray(error) from None
    return ray


def no_ray(error: ImportError) -> DeviceError:
    """Return the error for a package of the extra `ray` that cannot be imported."""
    extra = "install the extra ray (in a clone of ms-edge: pip install '.[ray]')"
    return DeviceError("no-ray", f"An archive needs Ray Data, which cannot be imported ({first_line(error)}); {extra}.")


def _cause(error: BaseException) -> str:
    """Return why Ray does not start or join, for a sentence."""
    inner: BaseException | None = error
    while inner is not None:
        if "AuthToken" in str(inner) or type(inner).__name__ == "AuthenticationError":
            return "it has another token, or one is missing; set RAY_AUTH_MODE=token, and copy the head's ~/.ray/auth_token"
        inner = inner.__cause__ or inner.__context__
    return first_line(error)


def require_cluster(address: str) -> None:
    """Raise DeviceError unless something like a cluster answers at `address`.

    Ray itself would import all of its libraries first, and then try for a long time.
    """
    where = f"The cluster at {address} cannot be joined"
    try:
        found = _found() if address == "auto" else address.removeprefix("ray://")
        parts = urlsplit(f"//{found}")
        if not (parts.hostname and parts.port):
            raise ValueError
    except ConnectionError:
        why = "no cluster runs on this machine; start one with ray start, or give HOST:PORT"
        raise DeviceError("no-ray", f"{where}: {why}.") from None
    except ValueError:
        raise DeviceError("no-ray", f"{where}: an address is auto or HOST:PORT, as in head:6379.") from None
    try:
        with socket.create_connection((parts.hostname, parts.port), CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(HELLO)
            with connection.makefile("rb") as answers:
                answer = answers.read(9)
    except OSError as error:
        why = f"it does not answer ({reason(error)}); give the address that ray start has printed"
        raise DeviceError("no-ray", f"{where}: {why}.") from None
    if answer[3:4] != bytes([SETTINGS]):
        why = "another program answers there; give the address that ray start has printed"
        raise DeviceError("no-ray", f"{where}: {why}.")


def _found() -> str:
    """Return the address of a cluster that runs on this machine. Raises ConnectionError or DeviceError."""
    import_ray()
    from ray._private.services import canonicalize_bootstrap_address

    return str(canonicalize_bootstrap_address("auto"))


@contextlib.contextmanager
def joined(address: str | None, *, verbose: bool) -> Iterator[Any]:
    """Give Ray, connected to the cluster at `address`, or to a new one of this machine's cores.

    A connection that this process has already is used. Another one ends with the `with` block.
    Raises DeviceError if there is none.
    """
    ray = import_ray()
    level = logging.INFO if verbose else logging.ERROR
    if not verbose:
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(level)
        warnings.filterwarnings("ignore", module="ray")
    own: dict[str, Any] = {
        "num_cpus": usable_cores(),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    fresh = not ray.is_initialized()
    if fresh:
        if not address:
            os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # saves 20 MB of each actor, which has many threads
        try:
            with _kept_signals():
                ray.init(
                    address=address or "local", logging_level=level, log_to_driver=verbose, **({} if address else own)
                )
        except Exception as error:  # for a start that takes too long, it has no class of its own
            where = f"The cluster at {address} cannot be joined" if address else "Ray cannot be started"
            raise DeviceError("no-ray", f"{where} ({_cause(error)}).") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = verbose
    try:
        yield ray
    finally:
        if fresh:
            ray.shutdown()


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    """Keep what SIGTERM does: Ray makes it end the process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def node_cpus(ray: Any) -> list[float]:
    """Return the CPUs of each node of the cluster that has any."""
    found = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return [float(cpus) for cpus in found if cpus]


def require_room(nodes: Sequence[float], least: int, num_cpus: float, *, readers: bool) -> None:
    """Raise UsageError if `least` actors of `num_cpus` each could keep a run from ever going on.

    `nodes` are the CPUs of each node. An actor has to fit on a node. If a dataset has `readers`,
    which need a whole CPU of a node, the actors must leave one, wherever Ray puts them.
    """
    if not nodes or not num_cpus:  # a cluster that starts its nodes when they are needed
        return
    if num_cpus > max(nodes):
        raise UsageError(
            f"An actor of {num_cpus:g} CPUs cannot start, since no node of the cluster has more than {max(nodes):g}; "
            "give it fewer."
        )
    if readers and least > most_beside_readers(nodes, num_cpus):
        what = f"{least} actor{'s' if least > 1 else ''} of {num_cpus:g} CPU{'s' if num_cpus > 1 else ''}"
        raise UsageError(
            f"{what} could leave no whole CPU for what reads the dataset, since the cluster has {sum(nodes):g}; "
            "give fewer actors, or num_cpus=0.5 or 0."
        )


def most_beside_readers(nodes: Sequence[float], num_cpus: float) -> int:
    """Return how many actors leave a whole CPU on some node, wherever Ray puts them.

    >>> most_beside_readers([2], 1), most_beside_readers([2], 0.5), most_beside_readers([1, 1, 1], 1)
    (1, 2, 2)
    """
    return sum(int((cpus - 1) // num_cpus) + 1 for cpus in nodes if cpus >= 1) - 1
