"""Metrics of live sources for Prometheus: a text file for node_exporter, and a page on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ms_edge.errors import DeviceError, UsageError, reason
from ms_edge.live.events import Event, Position
from ms_edge.live.records import LOSSES
from ms_edge.output.destination import replacing

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

EVERY_S = 10.0  # between two versions of the file
HOST = "127.0.0.1"
START = b"# HELP ms_edge_"  # of the file, by which it is known


class Metrics:
    """A consumer that counts what is heard and what happens, since this process began.

    `path` is a file, which is replaced every ten seconds: node_exporter reads *.prom files in the
    directory of its option --collector.textfile.directory. `port` is that of a page
    http://127.0.0.1:PORT/metrics. `log` is called if the file cannot be written.

    Raises UsageError if the file or the page is impossible, and DeviceError if prometheus-client is
    not installed.
    """

    def __init__(self, path: str | None, port: int | None, log: Callable[[str], None]) -> None:
        try:
            import prometheus_client
        except ImportError:
            raise DeviceError(
                "no-live",
                "Metrics need prometheus-client, which is not installed (pip install prometheus-client, or ms-edge with "
                "its extra live).",
            ) from None
        self._path, self._log = path, log
        # No series with the time of each counter, which nothing needs.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = prometheus_client.CollectorRegistry()
        of_source = ["source", "channel"]

        def counter(name: str, text: str, *labels: str) -> Counter:
            return prometheus_client.Counter(f"ms_edge_{name}", text, labels, registry=self._registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return prometheus_client.Gauge(f"ms_edge_{name}", text, labels, registry=self._registry)

        self._seconds = counter("audio_seconds", "Audio that has a label, in seconds.", *of_source, "label")
        self._lost = counter("lost_seconds", "Audio that was lost, in seconds.", "source")
        self._losses = counter("connection_losses", "Connections that were lost.", "source")
        self._stalls = counter("stalls", "Times that audio did not arrive in time.", "source")
        self._gaps = counter("gaps", "Times that audio was lost while connected.", "source")
        self._connected = gauge("connected", "1 while audio arrives, else 0.", "source")
        self._latest = gauge(
            "last_audio_timestamp_seconds", "Unix time of the latest audio that has a label.", "source"
        )
        self._alerts = counter("alerts", "Times that the condition of a rule was met.", "source", "rule")
        self._alert = gauge("alert_active", "1 while the condition of a rule is met, else 0.", "source", "rule")
        # Of each source and channel, what is on and up to where it is counted (stream time).
        self._on: dict[tuple[str, int | None], tuple[str, float]] = {}
        self._began: dict[str, float] = {}  # Unix time of stream time 0 of each source
        self._active: dict[tuple[str, str], set[int | None]] = {}  # channels of an alert, by source and rule
        self._write_at = -math.inf
        self._failing = False
        self._server: Any = None
        if path is not None:
            try:
                _require_metrics(path)
                self._write()
            except OSError as error:
                raise UsageError(f"{path}: cannot be written ({reason(error)}).") from None
        if port is not None:
            try:
                self._server, _ = prometheus_client.start_http_server(port, HOST, self._registry)
            except OSError as error:
                raise UsageError(f"Port {port} of {HOST} cannot be used ({reason(error)}); give another one.") from None

    def take(self, event: Event) -> None:
        """Count one event."""
        key, source = (event.source, event.channel), event.source
        self._began[source] = event.utc.timestamp() - event.time_s
        if event.kind == "segment_start":
            self._on[key] = str(event.label), event.time_s
        elif event.kind in ("label", "segment_end"):
            self._count(key, event.time_s)
            if event.kind == "segment_end":
                self._on.pop(key, None)
            elif key in self._on:
                self._on[key] = str(event.label), self._on[key][1]
        elif event.kind in ("alert", "alert_end"):
            active = self._active.setdefault((source, str(event.rule)), set())
            (active.add if event.kind == "alert" else active.discard)(event.channel)
            self._alert.labels(source, event.rule).set(bool(active))
            if event.kind == "alert":
                self._alerts.labels(source, event.rule).inc()
        else:
            self._take_of_connection(event)

    def _take_of_connection(self, event: Event) -> None:
        if event.kind == "connected":  # every series exists from the beginning, so that its increase can be seen
            for metric in (self._lost, self._losses, self._stalls, self._gaps):
                metric.labels(event.source)
        counters = {"lost": self._losses, "stall": self._stalls, "gap": self._gaps}
        if event.kind in counters:
            counters[event.kind].labels(event.source).inc()
        if event.kind in LOSSES:
            self._lost.labels(event.source).inc(event.lost_s or 0.0)
        if event.kind != "gap":
            self._connected.labels(event.source).set(event.kind in ("connected", "reconnected", "resumed"))

    def _count(self, key: tuple[str, int | None], until_s: float) -> None:
        """Count what is on, up to a moment of stream time."""
        if key in self._on:
            label, counted_s = self._on[key]
            source, channel = key
            self._seconds.labels(source, channel or "", label).inc(max(0.0, until_s - counted_s))
            self._on[key] = label, max(counted_s, until_s)

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Count what is decided, and replace the file if that is due."""
        for key in self._on:
            self._count(key, progress[key[0]].decided_s if key[0] in progress else 0.0)
        for source, (decided_s, _) in progress.items():
            if source in self._began and decided_s:
                self._latest.labels(source).set(self._began[source] + decided_s)
            elif source not in self._began:
                self._connected.labels(source).set(0)
        if self._path is not None and time.monotonic() >= self._write_at:
            self._replace()

    def _replace(self) -> None:
        """Replace the file. Say so once if that is impossible."""
        try:
            self._write()
        except OSError as error:
            if not self._failing:
                self._log(f"{self._path}: the metrics cannot be written ({reason(error)}); that is tried again.")
            self._failing = True
        else:
            self._failing = False

    def _write(self) -> None:
        from prometheus_client import generate_latest

        assert self._path is not None
        self._write_at = time.monotonic() + EVERY_S
        with replacing(self._path) as file:
            file.write(generate_latest(self._registry))

    def close(self) -> None:
        """Write the file once more, and close the page."""
        if self._path is not None:
            self._replace()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _require_metrics(path: str) -> None:
    """Raise UsageError if there is a file that has something else than metrics of ms-edge, as a recording has."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(len(START)) not in (b"", START):
                raise UsageError(
                    f"{path}: holds no metrics of ms-edge and is not replaced; give --metrics another name."
                )
