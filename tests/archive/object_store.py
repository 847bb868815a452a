"""An S3 server on loopback that answers late and fails: moto's server behind a proxy with faults.

moto is a stand-in for S3: it speaks the protocol, but its speed, its limits and its errors are not
those of a real service. The proxy adds the errors that services are known for.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
# What S3 calls an error of its own, and a request to slow down.
ERRORS = {"error": (500, "InternalError"), "slow-down": (503, "SlowDown")}
BODY_FAULTS = ("reset", "cut")
FAULTS = (*ERRORS, *BODY_FAULTS)
LEAST_BODY = 64  # bytes of a body that a fault can divide


class ObjectStore:
    """A running server. `endpoint` is its address, and `injected` counts the faults so far.

    Every answer takes `latency_s`. Of the requests that read or write an object, every `every`-th
    one fails, with one of FAULTS after the other (0: none does):

    error, slow-down: status 500 or 503 with S3's XML, also for requests that write.
    reset, cut: the connection is reset, or ends, in the middle of the body, which is then shorter
    than its Content-Length.
    """

    def __init__(self, endpoint: str, moto: str) -> None:
        self.endpoint, self.moto = endpoint, moto
        self.latency_s, self.every = 0.0, 0
        self.injected: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._objects = 0

    def client(self):
        """Return a boto3 client of the server itself, without faults."""
        return boto3.client(
            "s3", endpoint_url=self.moto, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
        )

    def environment(self) -> dict[str, str]:
        """Return the variables by which AWS's libraries find the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def fault_of(self, method: str, path: str) -> str | None:
        """Count a request, and return the fault that it meets."""
        with self._lock:
            self.requests[method] += 1
            if method not in ("GET", "PUT") or path.strip("/").count("/") < 1 or not self.every:
                return None
            self._objects += 1
            number, rest = divmod(self._objects, self.every)
            return None if rest else FAULTS[number % len(FAULTS)]

    def note(self, fault: str) -> None:
        """Count a fault that was injected."""
        with self._lock:
            self.injected[fault] += 1


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def handle_any(self) -> None:
        body = self._body()
        time.sleep(self.store.latency_s)
        fault = self.store.fault_of(self.command, self.path.partition("?")[0])
        if fault in ERRORS:
            self.store.note(fault)
            self._fail(*ERRORS[fault])
            return
        upstream = http.client.HTTPConnection(self.store.moto.removeprefix("http://"))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        if body is not None:
            headers["Content-Length"] = str(len(body))
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", answer.getheader("Content-Length", "0"))
            self.end_headers()
            return
        if self.command == "PUT" or fault not in BODY_FAULTS or answer.status >= 300 or len(data) < LEAST_BODY:
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.store.note(fault)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.close_connection = True
        if fault == "reset":  # SO_LINGER of zero seconds makes close() send RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

    def _fail(self, status: int, code: str) -> None:
        xml = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(xml)))
        self.end_headers()
        self.wfile.write(xml.encode())

    def _body(self) -> bytes | None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        length = self.headers.get("Content-Length")
        return None if length is None else self.rfile.read(int(length))

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that stop reading


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a server until the end of a `with` block."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    handler = type("Proxy", (_Proxy,), {})
    proxy = _Server(("127.0.0.1", 0), handler)
    store = ObjectStore(f"http://127.0.0.1:{proxy.server_port}", f"http://{host}:{port}")
    handler.store = store
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()
