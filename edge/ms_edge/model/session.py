"""A model at work: an ONNX session made from hashed bytes, and what the file says of itself.

The one wall onnxruntime's errors stop at.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.errors import DeviceError, ModelError, UsageError, first_line, reason
from ms_edge.features.spec import FEATURES, MAX_VALUES, WAVEFORM, FrontEndSpec
from ms_edge.model.check import read_contents
from ms_edge.model.metadata import Metadata
from ms_edge.model.providers import CPU, CUDA, Provider, fell_back, obtained_provider, requested_providers
from ms_edge.model.quiet import quiet_stderr

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime

    BUNDLED: Path


_MODELS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "models")
_BUNDLED = os.path.join(_MODELS, "music-speech.onnx")
# The model that was bundled before. Its name can be given instead of a path; it stays for one release.
BEFORE = "music-speech-0.1"
MAX_BYTES = 64 << 20
# onnxruntime's sigmoid and softmax in float32 may miss 0 and 1 by so much: 1.0000001 has been seen on real audio.
SCORE_ROUNDING = 1e-5


class Model:
    """An exported model ready to run.

    Made by `Model.load`. `metadata` holds the front-end spec, labels, decision rule, provenance and golden vector;
    `input` says what it takes, `features` or the `waveform`; `sha256` is the digest of the file, `device` what was asked
    for and `provider` what it runs on; `fell_back` is true where `auto` tried a device in vain. `max_batch` is how many windows
    `scores` should get at a time, so that the network holds at most 64 MiB of values (float32). `scores` may be called from
    several threads. A copy in another process is loaded from the file again.

    >>> Model.load()  # doctest: +ELLIPSIS
    <ms_edge.Model 'mel_residual' from ...music-speech.onnx
      hears    1 s of 16,000 Hz mono every 0.16 s: 48 mel bands x 49 frames
      takes    features (windows, 49, 48), or runs of frames: a window every 4
      answers  speech | music (independent)
      runs on  CPUExecutionProvider, ... bytes, sha256 ...>
    """

    def __init__(
        self,
        path: str,
        sha256: str,
        size: int,
        metadata: Metadata,
        session: onnxruntime.InferenceSession,
        model_input: str,
        device: str,
        provider: str,
        fell_back: bool,
        max_batch: int,
    ) -> None:
        self.path = path
        self.sha256 = sha256
        self.size = size
        self.metadata = metadata
        self.input = model_input
        self.device = device
        self.provider = provider
        self.fell_back = fell_back
        self.max_batch = max_batch
        self._session = session

    def __reduce__(self) -> tuple[object, ...]:
        return Model.load, (self.path, self.device)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, device: str = "auto") -> Model:
        """Load a model file onto `auto`, `cpu`, `cuda`, `cuda:N` or a provider by its name.

        The file is the bundled one by default; the name `music-speech-0.1` stands for the one that was bundled before.
        Raises ModelError where the file cannot be used, DeviceError where onnxruntime or the device is not to be had.
        """
        if not isinstance(device, str):
            raise UsageError(f"device must be auto, cpu, cuda, cuda:N or a provider's name, not {device!r}.")
        try:
            path = os.fsdecode(_BUNDLED if path is None else path)
            path = os.path.join(_MODELS, f"{BEFORE}.onnx") if path == BEFORE else path
        except TypeError:
            raise UsageError(f"A model is given by its path, not by {path!r:.40}.") from None
        content = _read(path)
        with _naming(path):
            entries, window_values = read_contents(content)
            metadata = Metadata.parse(entries)
        session, provider, fallen = _session(path, content, device)
        with _naming(path):
            model_input = _check_shapes(session, metadata)
        digest = hashlib.sha256(content).hexdigest()
        batch = max(1, MAX_VALUES // window_values)
        return cls(path, digest, len(content), metadata, session, model_input, device, provider, fallen, batch)

    def scores(self, inputs: Float32) -> Float32:
        """Probabilities (windows, labels) float32 of what the model takes: features (windows, *spec.feature_shape) or
        waveforms (windows, spec.clip_samples), float32. `ms_edge.features.frontend.model_input` makes either of samples.

        Raises ModelError where onnxruntime cannot compute them, or they are no probabilities.
        """
        return self._probabilities(inputs, len(inputs))

    def run_scores(self, features: Float32) -> Float32:
        """Probabilities (windows, labels) float32 of a run of features (frames, spec.bins): of a window every
        `metadata.step_frames` frames, as long as there are frames for one. What windows share is computed once.

        Only for models whose metadata has `step_frames`. Raises ModelError as `scores` does.
        """
        spec, step = self.metadata.spec, self.metadata.step_frames
        if step is None:
            raise ValueError("the model has no step_frames")
        clip = spec.frames(spec.clip_samples)
        windows = (len(features) - clip) // step + 1
        # Of more frames than these there might be one more window, where a window does not see all frames of its clip.
        return self._probabilities(features[np.newaxis, : clip + (windows - 1) * step], windows)

    def _probabilities(self, inputs: Float32, windows: int) -> Float32:
        try:
            scores = np.asarray(self._session.run(["scores"], {self.input: inputs})[0], np.float32)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor
            raise ModelError(
                "model-failed", f"{self.path}: onnxruntime could not run the model: {first_line(error)}."
            ) from None
        if self.metadata.step_frames and scores.ndim == 3:  # (runs, windows, labels)
            scores = scores.reshape(-1, scores.shape[-1])
        if not (
            scores.shape == (windows, len(self.metadata.labels))
            and (scores >= -SCORE_ROUNDING).all()
            and (scores <= 1 + SCORE_ROUNDING).all()
        ):
            raise ModelError(
                "bad-scores", f"{self.path}: the model's answers are no probabilities (NaN, or outside 0 to 1)."
            )
        return scores.clip(0, 1)

    def __repr__(self) -> str:
        spec = self.metadata.spec
        bins, frames = (spec.bins, spec.frames(spec.clip_samples))
        mel = f"{bins} mel bands" if spec.mel else f"{bins} bins"
        shape = ", ".join(map(str, input_shape(spec, self.input)))
        step = self.metadata.step_frames
        runs = f", or runs of frames: a window every {step}" if step else ""
        return (
            f"<ms_edge.Model {self.metadata.recipe!r} from {self.path}\n"
            f"  hears    {spec.clip_s:g} s of {spec.sample_rate_hz:,} Hz mono every {spec.hop_s:g} s: {mel} x {frames} frames\n"
            f"  takes    {self.input} (windows, {shape}){runs}\n"
            f"  answers  {' | '.join(self.metadata.labels)} ({self.metadata.decision.kind})\n"
            f"  runs on  {self.provider}, {self.size:,} bytes, sha256 {self.sha256[:12]}>"
        )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError("model-not-found", f"{path}: the model must be a regular file.")
            content = file.read(min(status.st_size, MAX_BYTES) + 1)  # room for so much is made before it is read
    except OSError as error:
        raise ModelError("model-not-found", f"{path}: the model cannot be read ({reason(error)}).") from None
    except ValueError:
        raise ModelError("model-not-found", f"{path!r}: not a usable file name.") from None
    if len(content) > MAX_BYTES:
        raise ModelError("model-too-large", f"{path}: is larger than the {MAX_BYTES >> 20} MiB that a model may have.")
    if not content:
        raise ModelError("bad-model", f"{path}: the model file is empty.")
    return content


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Begin the message of a ModelError with the path of the file."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.code, f"{path}: {error}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO would wait for a writer


def _session(path: str, content: bytes, device: str) -> tuple[onnxruntime.InferenceSession, str, bool]:
    ort: Any = import_onnxruntime()
    options = ort.SessionOptions()
    # Small models: a second thread costs more than it brings, and a spinning one costs the neighbours.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4

    def session_on(providers: list[Provider]) -> onnxruntime.InferenceSession:
        # From bytes, so that what was hashed is what runs, and no second file is read. No fallback of onnxruntime's own,
        # which it tells on standard output.
        return ort.InferenceSession(content, sess_options=options, providers=providers, enable_fallback=0)

    requested = requested_providers(device, ort.get_available_providers())
    if requested[0] != CPU:
        with quiet_stderr():
            if any(CUDA in provider for provider in requested) and hasattr(ort, "preload_dlls"):
                # The CUDA libraries that pip installed; it prints what it does not find.
                with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
                    ort.preload_dlls()
            try:
                session = session_on(requested)
            except Exception as error:  # onnxruntime's own exceptions have no common ancestor
                if CPU not in requested:
                    raise DeviceError("no-device", f"{device} cannot be used: {first_line(error)}.") from None
            else:
                provider = obtained_provider(requested, session.get_providers())
                return session, provider, fell_back(requested, provider)
    try:
        return session_on([CPU]), CPU, requested[0] != CPU
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's own exceptions have no common ancestor
        raise ModelError("bad-model", f"{path}: not a model that onnxruntime can run: {first_line(error)}.") from None


def import_onnxruntime() -> ModuleType:
    """onnxruntime, without what it says of machines that have no GPU. Raises DeviceError where it is not installed."""
    if "onnxruntime" not in sys.modules:
        with quiet_stderr():
            try:
                import onnxruntime
            except ImportError as error:
                if error.name == "onnxruntime":
                    raise DeviceError(
                        "no-onnxruntime",
                        "onnxruntime is not installed; type in a clone of ms-edge: pip install '.[cpu]' (or '.[gpu]' for CUDA)",
                    ) from None
                raise DeviceError("no-onnxruntime", f"onnxruntime cannot be loaded: {first_line(error)}.") from None
            onnxruntime.set_default_logger_severity(4)
    return sys.modules["onnxruntime"]


def input_shape(spec: FrontEndSpec, model_input: str) -> tuple[int, ...]:
    """Shape of what a model takes of one window: its `waveform` or its `features`."""
    return (spec.clip_samples,) if model_input == WAVEFORM else spec.feature_shape


def _check_shapes(session: onnxruntime.InferenceSession, metadata: Metadata) -> str:
    """The name of the model's input, once its inputs and outputs are what its metadata says."""
    found = [
        (value.name, value.type, [size if isinstance(size, int) else None for size in value.shape[1:]])
        for value in (*session.get_inputs(), *session.get_outputs())
    ]
    name = WAVEFORM if WAVEFORM in (value.name for value in session.get_inputs()) else FEATURES
    given, answered = list(input_shape(metadata.spec, name)), [len(metadata.labels)]
    expected: list[tuple[str, str, list[int | None]]]
    if metadata.step_frames:
        expected = [
            (FEATURES, "tensor(float)", [None, metadata.spec.bins]),
            ("scores", "tensor(float)", [None, *answered]),
        ]
    else:
        expected = [(name, "tensor(float)", [*given]), ("scores", "tensor(float)", [*answered])]
    for value in (*session.get_inputs(), *session.get_outputs()):
        if value.shape and isinstance(value.shape[0], int):
            raise ModelError(
                "bad-shape",
                f"The model's {value.name} has room for {value.shape[0]} windows at a time, not for any number.",
            )
    if found != expected:
        raise ModelError("bad-shape", f"The model's inputs and outputs are {found}, its metadata says {expected}.")
    return name


def __getattr__(name: str) -> Any:
    if name != "BUNDLED":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pathlib import Path  # to import it takes as long as to load the model

    return Path(_BUNDLED)
