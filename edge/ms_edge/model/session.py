"""Load a model file into an onnxruntime session and run it.

This module translates the errors of onnxruntime; no other module catches them.
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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.errors import DeviceError, ModelError, UsageError, first_line, reason
from ms_edge.features.spec import BATCH_S, FEATURES, MAX_VALUES, WAVEFORM, FrontEndSpec
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
# Names that a user may give instead of a path. The previous bundled model stays for one release.
BUNDLED_NAME = "bundled"
WAVEFORM_NAME = "music-speech-waveform"  # the bundled model with its front end in the graph
LEVEL_NAME = "music-speech-level"  # the bundled model with a second output, the level of the music
LARGE_NAME = "music-speech-large"  # the bundled network joined with a second one: more accurate, slower
BEFORE = "music-speech-0.1"
_NAMED = {BUNDLED_NAME: _BUNDLED} | {
    name: os.path.join(_MODELS, f"{name}.onnx") for name in (WAVEFORM_NAME, LEVEL_NAME, LARGE_NAME, BEFORE)
}
MAX_BYTES = 64 << 20
# The sigmoid and softmax of onnxruntime may exceed 0 to 1 by this much in float32: real audio has
# given 1.0000001.
SCORE_ROUNDING = 1e-5


class Answers(NamedTuple):
    """What a network gives for windows: `scores` (windows, labels) float32 are probabilities.

    `levels` (windows, 2) float32 are the level of the music relative to the speech and its standard
    deviation, in dB; None if the model has no such output.
    """

    scores: Float32
    levels: Float32 | None


class Model:
    """An exported model, ready to run. `Model.load` makes one.

    `path`, `size` (bytes) and `sha256` identify the file. `metadata` holds the front-end spec, the
    labels, the decision rule, the provenance and the golden vector. `input` is the name of the
    model's input, `features` or `waveform`. `device` is the device that was requested, and
    `provider` the onnxruntime provider that runs the model; `fell_back` is true if `auto` tried
    another provider first and failed. `max_batch` is the largest number of windows to give to
    `scores` at a time: the network then holds at most 64 MiB of float32 values.

    Several threads may call `scores` and `run_scores`. Pickling keeps the path and the device;
    another process loads the file again.

    >>> Model.load()  # doctest: +ELLIPSIS
    <ms_edge.Model 'mel_residual' from ...music-speech.onnx
      window   1 s of 16,000 Hz mono every 0.16 s: 48 mel bands x 49 frames
      input    features (windows, 49, 48), or runs of frames: one window every 4 frames
      labels   speech | music (independent)
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
        """Load a model file onto a device.

        `path` is a model file, or the name of a model of this package: `bundled` (the default),
        `music-speech-large` (more accurate, slower), `music-speech-waveform` (the bundled one
        with the front end in the graph), `music-speech-level` (with the level of the music as a
        second output) or `music-speech-0.1` (the previous bundled model). `device` is `auto`, `cpu`,
        `cuda`, `cuda:N` or the name of an onnxruntime provider. Raises ModelError if the file cannot
        be read, trusted or run; DeviceError if onnxruntime or the device is not available;
        UsageError for an argument of the wrong type.
        """
        if not isinstance(device, str):
            raise UsageError(f"device must be auto, cpu, cuda, cuda:N or a provider's name, not {device!r}.")
        try:
            path = os.fsdecode(_BUNDLED if path is None else path)
            path = _NAMED.get(path, path)
        except TypeError:
            raise UsageError(f"A model must be given as a path, not as {path!r:.40}.") from None
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
        """Compute the probability of each label for each window, (windows, labels) float32.

        `inputs` is float32: features (windows, *spec.feature_shape) or waveforms (windows,
        spec.clip_samples), as `input` says. `ms_edge.features.frontend.model_inputs` computes
        either from samples. Raises ModelError if onnxruntime fails (`model-failed`) or the results
        are not probabilities (`bad-scores`).
        """
        return self.answers(inputs).scores

    def answers(self, inputs: Float32) -> Answers:
        """Compute all outputs for each window. Arguments and errors are those of `scores`."""
        return self._answers(inputs, len(inputs))

    def run_scores(self, features: Float32) -> Float32:
        """Compute the probabilities of overlapping windows, (windows, labels) float32.

        `features` is (frames, spec.bins) float32. One window starts every `metadata.step_frames`
        frames, until fewer frames than a clip are left. The network computes what windows share
        only once. Raises ValueError for a model without `step_frames`, and ModelError as `scores`
        does.
        """
        return self.run_answers(features).scores

    def run_answers(self, features: Float32) -> Answers:
        """Compute all outputs for overlapping windows. Arguments and errors are those of `run_scores`."""
        spec, step = self.metadata.spec, self.metadata.step_frames
        if step is None:
            raise ValueError("the model has no step_frames")
        clip = spec.frames(spec.clip_samples)
        windows = (len(features) - clip) // step + 1
        # A network need not see all frames of a clip. Given the frames after the last window, it
        # could add a window.
        return self._answers(features[np.newaxis, : clip + (windows - 1) * step], windows)

    def _answers(self, inputs: Float32, windows: int) -> Answers:
        names = ["scores"] if self.metadata.level is None else ["scores", "level"]
        try:
            outputs = self._session.run(names, {self.input: self._padded(inputs) if self.provider == CUDA else inputs})
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor
            raise ModelError(
                "model-failed", f"{self.path}: onnxruntime could not run the model: {first_line(error)}."
            ) from None
        scores, *levels = (np.asarray(output, np.float32) for output in outputs)
        if self.metadata.step_frames and scores.ndim == 3:  # (runs, windows, labels)
            scores, *levels = (each.reshape(-1, each.shape[-1]) for each in (scores, *levels))
        if self.provider == CUDA:
            scores, *levels = (each[:windows] for each in (scores, *levels))
        low, high = scores.min(initial=0.0), scores.max(initial=1.0)  # NaN if there is one
        shape = (windows, len(self.metadata.labels))
        if scores.shape != shape or not (low >= -SCORE_ROUNDING and high <= 1 + SCORE_ROUNDING):
            raise ModelError(
                "bad-scores", f"{self.path}: the model's scores are not probabilities (NaN, or outside 0 to 1)."
            )
        for each in levels:
            if each.shape != (windows, 2) or not np.isfinite(each).all():
                raise ModelError("bad-scores", f"{self.path}: the model's levels of the music are not numbers.")
        if low < 0 or high > 1:
            scores = scores.clip(0, 1)
        return Answers(scores, levels[0] if levels else None)

    def _padded(self, inputs: Float32) -> Float32:
        """Return the inputs with zeros after them, as long as what a classifier gives at a time.

        On CUDA, a new shape of the input costs more time than all windows of a batch, also if the
        session had it before (onnxruntime issue 23006). A run of overlapping windows, or one
        window of a model that takes runs, gets more frames; other inputs get more windows.
        """
        spec = self.metadata.spec
        if self.metadata.step_frames and len(inputs) == 1:
            axis, size = 1, spec.frames(round(BATCH_S * spec.sample_rate_hz))
        else:
            axis, size = 0, min(int(BATCH_S / spec.clip_s), self.max_batch)
        missing = size - inputs.shape[axis]
        if missing <= 0:
            return inputs
        return np.pad(inputs, [(0, missing if each == axis else 0) for each in range(inputs.ndim)])

    def __repr__(self) -> str:
        spec = self.metadata.spec
        bins, frames = (spec.bins, spec.frames(spec.clip_samples))
        mel = f"{bins} mel bands" if spec.mel else f"{bins} bins"
        shape = ", ".join(map(str, input_shape(spec, self.input)))
        step = self.metadata.step_frames
        runs = f", or runs of frames: one window every {step} frames" if step else ""
        return (
            f"<ms_edge.Model {self.metadata.recipe!r} from {self.path}\n"
            f"  window   {spec.clip_s:g} s of {spec.sample_rate_hz:,} Hz mono every {spec.hop_s:g} s: {mel} x {frames} frames\n"
            f"  input    {self.input} (windows, {shape}){runs}\n"
            f"  labels   {' | '.join(self.metadata.labels)} ({self.metadata.decision.kind})\n"
            f"  runs on  {self.provider}, {self.size:,} bytes, sha256 {self.sha256[:12]}>"
        )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError("model-not-found", f"{path}: the model must be a regular file.")
            content = file.read(min(status.st_size, MAX_BYTES) + 1)  # Python allocates this much before it reads
    except OSError as error:
        is_name = os.path.basename(path) == path and not path.endswith(".onnx")
        known = f"; the models of this package are {', '.join(_NAMED)}" if is_name else ""
        raise ModelError("model-not-found", f"{path}: the model cannot be read ({reason(error)}){known}.") from None
    except ValueError:
        raise ModelError("model-not-found", f"{path!r}: not a usable file name.") from None
    if len(content) > MAX_BYTES:
        raise ModelError("model-too-large", f"{path}: the model is larger than {MAX_BYTES >> 20} MiB, the limit.")
    if not content:
        raise ModelError("bad-model", f"{path}: the model file is empty.")
    return content


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Put the path of the file before the message of a ModelError."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.code, f"{path}: {error}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a FIFO would wait for a writer


def _session(path: str, content: bytes, device: str) -> tuple[onnxruntime.InferenceSession, str, bool]:
    ort: Any = import_onnxruntime()
    options = ort.SessionOptions()
    # The models are small: a second thread costs more time than it saves, and a spinning one slows
    # other processes.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4

    def session_on(providers: list[Provider]) -> onnxruntime.InferenceSession:
        # The session is made from the bytes that were hashed, and reads no other file.
        # onnxruntime's own fallback is off because it prints to standard output.
        return ort.InferenceSession(content, sess_options=options, providers=providers, enable_fallback=0)

    requested = requested_providers(device, ort.get_available_providers())
    if requested[0] != CPU:
        with quiet_stderr():
            if any(CUDA in provider for provider in requested) and hasattr(ort, "preload_dlls"):
                # Load the CUDA libraries that pip installed. This prints the names of those that
                # are missing.
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
        raise ModelError("bad-model", f"{path}: onnxruntime cannot run this model: {first_line(error)}.") from None


def import_onnxruntime() -> ModuleType:
    """Import and return onnxruntime, without its warnings about missing GPUs.

    Raises DeviceError(`no-onnxruntime`).
    """
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
    """Return the shape of a model's input for one window, without the axis of the windows."""
    return (spec.clip_samples,) if model_input == WAVEFORM else spec.feature_shape


def _check_shapes(session: onnxruntime.InferenceSession, metadata: Metadata) -> str:
    """Return the name of the model's input.

    Raises ModelError(`bad-shape`) if the metadata describes another graph.
    """
    found = [
        (value.name, value.type, [size if isinstance(size, int) else None for size in value.shape[1:]])
        for value in (*session.get_inputs(), *session.get_outputs())
    ]
    name = WAVEFORM if WAVEFORM in (value.name for value in session.get_inputs()) else FEATURES
    given, answered = list(input_shape(metadata.spec, name)), [len(metadata.labels)]
    outputs = {"scores": answered, **({"level": [2]} if metadata.level else {})}
    expected: list[tuple[str, str, list[int | None]]]
    if metadata.step_frames:
        expected = [(FEATURES, "tensor(float)", [None, metadata.spec.bins])]
        expected += [(output, "tensor(float)", [None, *sizes]) for output, sizes in outputs.items()]
    else:
        expected = [(name, "tensor(float)", [*given])]
        expected += [(output, "tensor(float)", [*sizes]) for output, sizes in outputs.items()]
    for value in (*session.get_inputs(), *session.get_outputs()):
        if value.shape and isinstance(value.shape[0], int):
            raise ModelError(
                "bad-shape",
                f"The model's {value.name} has a fixed size of {value.shape[0]} windows; it must accept any number.",
            )
    if found != expected:
        raise ModelError("bad-shape", f"The model's inputs and outputs are {found}, but its metadata says {expected}.")
    return name


def __getattr__(name: str) -> Any:
    if name != "BUNDLED":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pathlib import Path  # importing it takes as long as loading the model

    return Path(_BUNDLED)
