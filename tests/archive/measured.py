"""The memory of actors: what they take above a worker of Ray that does nothing. Actors import this."""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from fsspec.implementations.local import LocalFileSystem

from ms_edge.archive.actor import Recordings

DATA = Path(__file__).parent.parent / "data"


class Measured(Recordings):
    """The actor, which also states the most memory that it has taken with the processes that it starts."""

    def __call__(self, table: pa.Table) -> pa.Table:
        most_mb, ended = [0.0], threading.Event()
        watch = threading.Thread(target=_watch, args=(most_mb, ended))
        watch.start()
        found = super().__call__(table)
        ended.set()
        watch.join()
        return found.append_column("most_mb", pa.array([max(*most_mb, _mb("self", "VmHWM"))] * len(found)))


def _watch(most_mb: list[float], ended: threading.Event) -> None:
    """Note the most memory of this process and its decoders together until the end."""
    program = Path("/proc/self/cmdline").read_bytes()
    while not ended.wait(0.02):
        children = [child for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()]
        now_mb = _mb("self", "VmRSS")
        for child in children:
            with contextlib.suppress(OSError, IndexError):  # it has ended
                if Path(f"/proc/{child}/cmdline").read_bytes() != program:  # else it has yet to become the decoder
                    now_mb += _mb(child, "VmRSS")
        most_mb.append(max(most_mb.pop(), now_mb))


def _mb(process: str, name: str) -> float:
    return int(Path(f"/proc/{process}/status").read_text().partition(f"{name}:")[2].split()[0]) / 1000


def idle_mb(ray: Any) -> float:
    """Return the memory (RSS, in MB) of a worker of Ray that has done nothing but start."""

    class Idle:  # not of a module, which the worker would import
        def most_mb(self) -> float:
            with open("/proc/self/status") as status:
                return int(status.read().partition("VmHWM:")[2].split()[0]) / 1000

    idle = ray.remote(Idle).options(runtime_env={"env_vars": {"A_WORKER_OF_ITS_OWN": "1"}}, num_cpus=0).remote()
    found: float = ray.get(idle.most_mb.remote())
    return found


def measured(ray: Any, paths: list[str], stores: Any) -> pa.Table:
    """Classify recordings in one actor, and return their rows with its memory."""
    one = ray.data.ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=1, enable_true_multi_threading=True)
    dataset = ray.data.from_arrow(pa.table({"path": paths})).map_batches(
        Measured,
        fn_constructor_args=({}, {}, stores),
        compute=one,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.5,
    )
    return pa.concat_tables(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))


class LongFileSystem(LocalFileSystem):
    """Local files, and `HOURS.hours`: a WAV file of so many hours that is made while it is read.

    It is speech and music in turns, 16 kHz, mono. An hour is 115 MB.
    """

    protocol = "long"

    def isfile(self, path: str) -> bool:
        return path.endswith(".hours") or super().isfile(path)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if not path.endswith(".hours"):
            return super().info(path, **options)
        return {"name": path, "type": "file", "size": _Turns(path).size}

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return _Turns(path) if path.endswith(".hours") else super()._open(path, mode, **options)


class _Turns(io.RawIOBase):
    """A WAV file of speech and music in turns."""

    def __init__(self, path: str) -> None:
        clips = [soundfile.read(DATA / name, dtype="int16")[0] for name in ("speech_italian_man.wav", "music_zaz.wav")]
        self._turn = np.concatenate(clips).tobytes()
        audio_bytes = int(Path(path).stem) * 3600 * 32_000
        header = io.BytesIO()
        soundfile.write(header, np.zeros(0, np.int16), 16_000, format="WAV", subtype="PCM_16")
        made = bytearray(header.getvalue())
        made[4:8] = (len(made) - 8 + audio_bytes).to_bytes(4, "little")
        made[-4:] = audio_bytes.to_bytes(4, "little")
        self._header, self.size, self._at = bytes(made), len(made) + audio_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self.size - self._at))
        found = self._header[self._at : self._at + wanted]
        while len(found) < wanted:
            start = (self._at + len(found) - len(self._header)) % len(self._turn)
            found += self._turn[start : start + wanted - len(found)]
        buffer[:wanted] = found
        self._at += wanted
        return wanted
