"""A radio station on this machine: Debian's Icecast, and FFmpeg as its studio."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = """<icecast>
  <limits><clients>20</clients><sources>5</sources><queue-size>524288</queue-size>
    <burst-on-connect>1</burst-on-connect><burst-size>65535</burst-size><source-timeout>5</source-timeout></limits>
  <authentication><source-password>studio</source-password><admin-user>admin</admin-user>
    <admin-password>admin</admin-password></authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <mount type="normal"><mount-name>/private.ogg</mount-name>
    <authentication type="htpasswd"><option name="filename" value="{folder}/users"/></authentication></mount>
  <fileserve>1</fileserve>
  <paths><basedir>/usr/share/icecast2</basedir><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>
    <adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""
# It refuses to run as root.
OWNER = "<changeowner><user>icecast2</user><group>icecast</group></changeowner>"
ENCODERS = {
    "ogg": ["-c:a", "libopus", "-b:a", "96k", "-content_type", "application/ogg", "-f", "ogg"],
    "mp3": ["-c:a", "libmp3lame", "-b:a", "128k", "-content_type", "audio/mpeg", "-f", "mp3"],
}


class Station:
    """An Icecast server at `url`, which tests start, stop, freeze and feed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._config = folder / "icecast.xml"
        owner = OWNER if os.geteuid() == 0 else ""
        folder.chmod(0o777)
        self._config.write_text(CONFIG.format(port=self.port, folder=folder, owner=owner), "utf-8")
        self._server: subprocess.Popen[bytes] | None = None
        self._studios: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._server = subprocess.Popen(["icecast2", "-c", self._config], stdout=-3, stderr=-3)
        wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/status-json.xsl", timeout=5):
            return True
        return False

    def stop(self) -> None:
        if self._server:
            self._server.send_signal(signal.SIGCONT)
            self._server.kill()
            self._server.wait()
            self._server = None

    def freeze(self, *, frozen: bool) -> None:
        """Let the server send nothing, with its connections open, or go on."""
        assert self._server
        self._server.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def broadcast(self, file: Path, mount: str) -> subprocess.Popen[bytes]:
        """Send a recording again and again, in real time, to `/MOUNT`; its suffix chooses the coding."""
        encoder = ENCODERS[mount.rpartition(".")[2]]
        target = f"icecast://source:studio@127.0.0.1:{self.port}/{mount}"
        studio = subprocess.Popen(
            ["ffmpeg", "-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i", file, *encoder, target], stderr=-3
        )
        self._studios.append(studio)
        wait_until(lambda: f"/{mount}".encode() in self._mounts())
        return studio

    def _mounts(self) -> bytes:
        with urllib.request.urlopen(f"{self.url}/status-json.xsl", timeout=5) as answer:
            return bytes(answer.read())

    def close(self) -> None:
        for studio in self._studios:
            studio.kill()
            studio.wait()
        self.stop()


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    """Wait until `condition()` is true. Fail if that takes too long."""
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "this does not happen"
        time.sleep(0.1)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    folder = tmp_path / "icecast"
    folder.mkdir()
    for parent in folder.parents:  # the server runs as another user
        with contextlib.suppress(OSError):
            if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o005:
                parent.chmod(0o755)
    made = Station(folder)
    made.start()
    yield made
    made.close()
