"""What an actor of Ray does: classify tables of recordings with a model that it loads once.

A decoder may crash, or never return. Then the actor ends, and Ray gives its table to another one.
That one classifies each recording of the table in a process of its own, which may end without harm:
its recording gets an error row, and all others get their records.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NoReturn

import pyarrow as pa

from ms_edge.archive.memory import give_back
from ms_edge.archive.stores import RemoteFile, Stores
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, DeviceError, ModelError, UsageError, first_line, reason
from ms_edge.model.session import Model
from ms_edge.output.parquet import RECORDINGS, row_of
from ms_edge.results import Classification, Failure

Result = Classification | Failure

# How often Ray may give a table to an actor. The first one classifies it in its own process. Others
# can only end if they lose their node or its memory; several in a row had the same recordings.
MOST_ATTEMPTS = 5
# How long a recording may give no audio: some formats are read whole before they are decoded.
SILENT_S, SILENT_BYTES_S = 300.0, 100_000
WATCH_S = 1.0
TOO_LONG = 70  # the exit status of a process that waited longer


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file, which the machine of an actor may not have."""

    content: bytes

    def load(self, device: str) -> Model:
        """Load the model onto a device. Raises ModelError or DeviceError."""
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            file.write(self.content)
            file.flush()
            return Model.load(file.name, device)


class Recordings:
    """A callable for `Dataset.map_batches`: a table of paths in, the rows of their records out.

    `settings` are the arguments of `Classifier`, with a `ModelFile` for a model that is not in the
    package, and `reading` those of `Classifier.classify`. The table has a column `path`, and may
    have `bytes` and `modified`, what a store knows of the recording; further columns are kept.
    """

    def __init__(self, settings: dict[str, Any], reading: dict[str, Any], stores: Stores) -> None:
        give_back()  # what importing Ray Data took, and then what loading the model took
        self._arguments = settings, reading, stores
        self._worker = Worker(*self._arguments)
        give_back()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table with a column for each field of the records."""
        found = pa.Table.from_pylist([row_of(result) for result in self._results(table)], schema=RECORDINGS)
        for name in table.column_names:
            if name not in (*RECORDINGS.names, "bytes", "modified"):
                found = found.append_column(table.field(name), table[name])
        return found

    def _results(self, table: pa.Table) -> list[Result]:
        recordings = table.to_pylist()
        attempt = _attempt()
        if attempt == 0:
            return self._worker.results(recordings)
        if attempt < MOST_ATTEMPTS:
            with Apart(*self._arguments) as apart:
                return [apart.result(each) for each in recordings]
        why = f"it, or another recording of its task, ended {attempt} actors of the cluster"
        return [Failure(each["path"], "worker-died", f"{each['path']}: {why}.") for each in recordings]


def _attempt() -> int:
    """Return how often the present task has begun before, at least; 0 if this is its first try."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    # Ray states it in its records of tasks, which come late; the public context of a task lacks it.
    worker = ray._private.worker.global_worker
    if not worker.connected or not worker.core_worker.get_current_task_attempt_number():
        return 0
    # Ray also counts each try to reach the actor of a lost node, so the tries that began are counted here.
    key = f"ms-edge-{ray.get_runtime_context().get_task_id()}".encode()
    begun = int(_internal_kv_get(key) or 0) + 1
    _internal_kv_put(key, str(begun).encode())
    return begun


class Worker:
    """A classifier of recordings, wherever they are. It ends its process if a decoder does not return."""

    def __init__(self, settings: dict[str, Any], reading: dict[str, Any], stores: Stores) -> None:
        model = settings.get("model")
        if isinstance(model, ModelFile):
            settings = {**settings, "model": model.load(settings.get("device", "auto"))}
        self._classifier = Classifier(**settings)
        self._reading, self._stores = reading, stores
        self._allowed_s, self._deadline = SILENT_S, float("inf")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while time.monotonic() < self._deadline:
            time.sleep(WATCH_S)
        os._exit(TOO_LONG)  # nothing else ends a decoder

    def results(self, recordings: list[dict[str, Any]]) -> list[Result]:
        """Return the results of rows of the table. Raises ModelError or DeviceError.

        The start of the next recording is fetched while one is classified: a store answers late.
        """
        with ThreadPoolExecutor(1) as ahead:
            found: list[Result] = []
            opening = [ahead.submit(self._opened, each) for each in recordings[:1]]
            for number, recording in enumerate(recordings):
                opened = opening.pop()
                opening += [ahead.submit(self._opened, each) for each in recordings[number + 1 : number + 2]]
                found.append(self.result(recording, opened.result))
            return found

    def _opened(self, recording: dict[str, Any]) -> RemoteFile | None:
        """Open a recording and fetch its start. Return None for a file of this machine. Raises OSError."""
        if self._stores.is_local(recording["path"]):
            return None
        file = self._stores.open(recording["path"])
        file.fetch_start()
        return file

    def result(self, recording: dict[str, Any], opened: Callable[[], RemoteFile | None] | None = None) -> Result:
        """Return the result of a row of the table. Raises ModelError or DeviceError.

        `opened` waits for what `_opened` returns or raises, if it has been called already.
        """
        path = recording["path"]
        self._allowed_s = SILENT_S + (recording.get("bytes") or 0) / SILENT_BYTES_S
        self._on_audio(0.0)
        try:
            return self._classified(recording, opened() if opened else self._opened(recording))
        except (AudioError, UsageError) as error:
            return Failure(path, error.code, error.message)
        except (ModelError, DeviceError):
            raise
        except FileNotFoundError:
            return Failure(path, "not-found", f"{path}: no such file.")
        except PermissionError as error:
            return Failure(path, "no-permission", f"{path}: {reason(error)}.")
        except OSError as error:
            return Failure(path, "cannot-read", f"{path}: cannot be read ({first_line(error)}).")
        except Exception as error:  # one recording of millions must not end the run
            why = f"{type(error).__name__}: {first_line(error)}"
            return Failure(path, "unexpected-error", f"{path}: ms-edge failed ({why}); please report it.")
        finally:
            self._deadline = float("inf")

    def _on_audio(self, seconds: float) -> None:
        self._deadline = time.monotonic() + self._allowed_s

    def _classified(self, recording: dict[str, Any], file: RemoteFile | None) -> Classification:
        if file is None:
            path = self._stores.at(recording["path"])[1]
            found = self._classifier.classify(path, on_audio=self._on_audio, **self._reading)
            return replace(found, path=recording["path"])
        with file:
            found = self._classifier.classify(file, on_audio=self._on_audio, **self._reading)  # type: ignore[arg-type]
        facts = {"bytes": recording.get("bytes"), "modified": recording.get("modified")}
        return replace(found, file={name: value for name, value in facts.items() if value is not None} or None)


class Apart:
    """A `Worker` in a process of its own, which is replaced if it ends."""

    def __init__(self, settings: dict[str, Any], reading: dict[str, Any], stores: Stores) -> None:
        self._arguments = settings, reading, stores
        self._process: subprocess.Popen[bytes] | None = None

    def result(self, recording: dict[str, Any]) -> Result:
        """Return the result of a recording, or a Failure if the process ends."""
        process = self._process or self._started()
        assert process.stdin
        assert process.stdout
        try:
            _send(process.stdin, recording)
            found = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            return self._failure(recording["path"])
        if isinstance(found, Exception):
            raise found
        result: Result = found
        return result

    def _started(self) -> subprocess.Popen[bytes]:
        """Start a process with the modules of this one."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", "from ms_edge.archive.actor import serve; serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has ended, which the next result says
            _send(self._process.stdin, self._arguments)
        return self._process

    def _failure(self, path: str) -> Failure:
        status = self._end()
        if status == TOO_LONG:
            why = "it may be damaged, or come from a store that does not answer"
            return Failure(path, "too-long", f"{path}: reading it took too long without any audio: {why}.")
        how = f"signal {-status}" if status < 0 else f"status {status}"
        why = "perhaps for want of memory, or by a crash in a decoder"
        return Failure(path, "worker-died", f"{path}: the process that read it ended twice ({how}), {why}.")

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):  # it ends by itself, and then its status says why
            process.wait(5)
        process.kill()
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process."""
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._end()


def serve() -> NoReturn:
    """Be the process of `Apart`: answer recordings on standard input until it is closed."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    worker: Worker | None = None
    with contextlib.suppress(EOFError, OSError):
        worker = Worker(*pickle.load(requests))
        while True:
            recording = pickle.load(requests)
            answer: Result | Exception
            try:
                answer = worker.result(recording)
            except (ModelError, DeviceError) as error:
                answer = error
            _send(answers, answer)
    os._exit(0)


def _send(pipe: Any, message: object) -> None:
    pickle.dump(message, pipe)
    pipe.flush()
