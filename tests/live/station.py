"""A radio station on this machine: Debian's Icecast, and FFmpeg as its studio."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import imageio_ffmpeg

CONFIG = """<icecast>
  <limits><clients>20</clients><sources>5</sources><queue-size>131072</queue-size>
    <burst-on-connect>1</burst-on-connect><burst-size>65535</burst-size><source-timeout>60</source-timeout></limits>
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
    "mp3": ["-c:a", "libmp3lame", "-ar", "44100", "-b:a", "320k", "-content_type", "audio/mpeg", "-f", "mp3"],
}


class Station:
    """An Icecast server at `url`, which tests start, stop, freeze and feed."""

    def __init__(self, folder: Path) -> None:
        self.port = next(port for port in range(8010 + os.getpid() % 9000, 32_768) if _free(port))
        self.url = f"http://127.0.0.1:{self.port}"
        self._users = folder / "users"
        self._status = ""
        self._config = folder / "icecast.xml"
        owner = OWNER if os.geteuid() == 0 else ""
        folder.chmod(0o777)
        self._config.write_text(CONFIG.format(port=self.port, folder=folder, owner=owner), "utf-8")
        self._server: subprocess.Popen[bytes] | None = None
        self._studios: list[subprocess.Popen[bytes]] = []

    def admit(self, user: str, password: str) -> None:
        """Let a listener hear `/private.ogg`."""
        self._users.write_text(f"{user}:{hashlib.md5(password.encode()).hexdigest()}\n")  # Icecast's own format

    def start(self) -> None:
        wait_until(self._answers)
        time.sleep(3)  # its threads start one after the other, and some not if a studio connects meanwhile

    def _answers(self) -> bool:
        """Return whether the server runs. Start it if it does not.

        Its port is not free at once after its end, and on a busy machine it sometimes hangs or ends at its start.
        """
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(["icecast2", "-c", self._config], stdout=-3, stderr=-3)
        try:
            with urllib.request.urlopen(f"{self.url}/status-json.xsl", timeout=5) as answer:
                self._status = answer.read().decode()
        except TimeoutError:
            self.stop()
        except OSError:
            return False
        return self._server is not None

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
        target = f"icecast://source:studio@127.0.0.1:{self.port}/{mount}"
        again = ["-v", "error", "-nostdin", "-re", "-stream_loop", "-1"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), *again, "-i", file, *ENCODERS[mount.rpartition(".")[2]], target]
        studios = [subprocess.Popen(command, stderr=-3)]
        self._studios += studios

        def on_air() -> bool:
            if studios[-1].poll() is not None:
                studios.append(subprocess.Popen(command, stderr=-3))
                self._studios.append(studios[-1])
            return self._answers() and f"/{mount}" in self._status

        wait_until(on_air)
        return studios[-1]

    def close(self) -> None:
        for studio in self._studios:
            studio.kill()
            studio.wait()
        self.stop()


def _free(port: int) -> bool:
    """Return whether a port is free. Those from 32,768 on could be taken by a client while the server restarts."""
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) != 0


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    """Wait until `condition()` is true. Fail if that takes too long."""
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "this does not happen"
        time.sleep(0.1)
