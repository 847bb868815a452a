"""`ms-edge archive --address` where no cluster answers: one sentence, at once."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import ray
from ray._private import services

from ms_edge.archive import cluster
from ms_edge.cli.main import main
from ms_edge.errors import DeviceError


@pytest.fixture
def refused(tmp_path, capsys):
    """A function that runs the command and returns its message for an address."""

    def message(address):
        output = tmp_path / "out"
        assert main(["archive", str(tmp_path), "-o", str(output), "--address", address]) == 3
        assert not output.exists()
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1
        assert address in errors
        return errors

    return message


def test_dead_head_is_one_sentence(refused):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "does not answer (connection refused)" in refused(f"localhost:{port}")


def test_silent_head_is_one_sentence(refused, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "does not answer (timed out)" in refused(f"127.0.0.1:{server.getsockname()[1]}")


def test_other_server_is_one_sentence(refused):
    def answer():
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        assert "another program answers there" in refused(f"127.0.0.1:{server.getsockname()[1]}")


def test_cluster_may_answer_in_pieces():
    def answer():
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            received = b""
            while len(received) < len(cluster.HELLO):
                received += connection.recv(100)
            for byte in b"\0\0\6\4\0\0\0\0\0":  # the beginning of a frame SETTINGS
                connection.sendall(bytes([byte]))
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        cluster.require_cluster(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["head", "head:port", "head:99999", ":6379", "local"])
def test_malformed_address_is_one_sentence(refused, address):
    assert "an address is auto or HOST:PORT" in refused(address)


def test_no_cluster_of_this_machine_is_one_sentence(refused, monkeypatch):
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    assert "no cluster runs on this machine" in refused("auto")


def test_token_that_is_missing_is_explained(monkeypatch):
    def init(**options):
        try:
            raise RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing or incorrect")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect to Ray cluster") from error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(DeviceError, match="set RAY_AUTH_MODE=token"), cluster.joined("head:6379", verbose=False):
        pass
