"""The errors of ms-edge. Each has a stable `code` and a message of one sentence."""

from __future__ import annotations

import errno


class MsEdgeError(Exception):
    """An error that ms-edge explains. Programs can rely on `code`; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class UsageError(MsEdgeError):
    """The arguments of the command or the call are invalid, or contradict each other."""

    def __init__(self, message: str) -> None:
        super().__init__("usage", message)
        self.args = (message,)  # pickle calls the class with these


class AudioError(MsEdgeError):
    """The audio cannot be read or used."""


class ModelError(MsEdgeError):
    """The model file cannot be read, trusted or run."""


class DeviceError(MsEdgeError):
    """The device or the software that is needed is not available on this machine."""


def reason(error: OSError) -> str:
    """Return the reason of an operating system error, in lower case and without the file's name."""
    return (error.strerror or str(error)).lower()


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error message, short enough for a sentence."""
    return str(error).strip().partition("\n")[0][:200].rstrip(".") or type(error).__name__


def resource_error(error: BaseException) -> DeviceError | None:
    """Translate the error of a process that lacks memory, open files or a library.

    Return None for any other error.
    """
    if isinstance(error, MemoryError):
        lack = "not enough memory; allow this process more (ulimit -v), or classify fewer files at a time (-j 1)."
    elif isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        limits = "allow this process more (ulimit -a shows the limits), or classify fewer files at a time (-j 1)."
        lack = f"{reason(error)}; {limits}"
    elif (
        isinstance(error, ImportError)
        or (type(error) is OSError and error.errno is None)  # cffi's
        or _while_importing(error)
    ):
        # NumPy's own message is a page of advice. Its cause names the problem in one line.
        lack = f"a library cannot be loaded ({first_line(error.__cause__ or error)})."
    else:
        return None
    return DeviceError("no-resources", lack)


def _while_importing(error: BaseException) -> bool:
    """Return whether an error was raised while a module was imported, which can raise any exception.

    The traceback of an error begins with the function that has caught it, so that no module is in it otherwise.
    """
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        if code.co_name == "<module>" or code.co_filename.startswith("<frozen importlib"):
            return True
        trace = trace.tb_next
    return False


# Every error code and what it means. The exit status goes with the class of the error, not with its code.
ERROR_CODES: dict[str, str] = {
    "bad-channels": "The recording has more than 64 channels, none, or not the one that was asked for.",
    "bad-data": "The dataset or the list of recordings cannot be read, or lacks recordings that are needed.",
    "bad-digest": "The content does not match the digest that was recorded for it.",
    "bad-excerpt": "The excerpt does not lie within the recording.",
    "bad-graph": "The ONNX model was not made by ms-export, or takes the waveform where features are needed.",
    "bad-keras": "The file cannot be read as a Keras model.",
    "bad-metadata": "The metadata of the model file cannot be read, or contradicts the model.",
    "bad-model": "The file is no ONNX model, or holds something that ms-edge does not run.",
    "bad-network": "The network does not have the inputs, outputs or layers that are needed.",
    "bad-rate": "The recording states a sample rate outside 4 to 384 kHz.",
    "bad-run": "The folder is no run folder, or the training in it did not finish.",
    "bad-schema": "The model file has a metadata schema that this version of ms-edge does not read.",
    "bad-scores": "The model returned scores that are not probabilities.",
    "bad-shape": "An input or output of the model has another type or shape than its metadata states.",
    "bad-spec": "The front-end specification cannot be read, or has a value that is not allowed.",
    "cannot-open": "The input cannot be opened, was read before, or is the file that this run writes.",
    "cannot-read": "Reading the file failed.",
    "cannot-render": "FluidSynth cannot play with a sound font of the corpus.",
    "cannot-unpack": "The archive cannot be unpacked.",
    "cannot-write": "The result cannot be written.",
    "download-failed": "The download failed.",
    "empty-file": "The file is empty (0 bytes).",
    "git-failed": "A git command failed.",
    "has-changed": "The recording is not as long as it was when its record was written.",
    "is-directory": "The path names a directory where a file is needed.",
    "model-failed": "ONNX Runtime failed while it ran the model.",
    "model-not-found": "The model file does not exist, is no regular file, or cannot be read.",
    "model-too-large": "The model file is larger than ms-edge loads.",
    "no-apt": "The program apt-get is not installed.",
    "no-audio": "The directory holds no audio file.",
    "no-commit": "The clone of the repository does not have the commit that is needed.",
    "no-cuda": "CUDA was asked for, and the installed ONNX Runtime cannot use it on this machine.",
    "no-device": "The device that was asked for is not available on this machine.",
    "no-dpkg": "The program dpkg-deb is not installed.",
    "no-ffmpeg": "FFmpeg was asked for and is not installed.",
    "no-fluidsynth": "The program fluidsynth, which plays MIDI songs, is not installed.",
    "no-git": "The program git is not installed.",
    "no-label": "The example of the dataset has no label.",
    "no-level": "The model does not measure the level of music under speech.",
    "no-live": "The package of the extra `live` (prometheus-client) is not installed.",
    "no-loudness": "The package pyloudnorm, which measures loudness, is not installed.",
    "no-metadata": "The model file has no metadata of ms-edge.",
    "no-onnxruntime": "ONNX Runtime is not installed or cannot be loaded.",
    "no-package": "The package repository does not have this version of the package.",
    "no-parity": "The model file does not give the scores of the network that it was made from.",
    "no-permission": "The user may not read the file.",
    "no-ray": "Ray, which classifies archives, is not installed, cannot be started, or its cluster cannot be joined.",
    "no-recorder": "The program that records from sound cards (arecord, parec) is not installed.",
    "no-report": "A package of the extra `report` (matplotlib, openpyxl) is not installed.",
    "no-resources": "The process lacks memory, open files or a library.",
    "no-room": "The disk has no room for the training windows.",
    "no-rooms": "The package pyroomacoustics, which simulates rooms, is not installed.",
    "no-samples": "The recording holds no samples.",
    "no-store": "The package that reads the object store of a URL is not installed.",
    "no-track": "The recording has no audio track, or none of the number that was asked for.",
    "non-finite": "The recording holds samples that are not finite numbers.",
    "not-a-file": "The path names a pipe, a socket or a device.",
    "not-audio": "The file is not audio, or is audio in a format that is not read here: FFmpeg may be missing.",
    "not-found": "The file does not exist.",
    "not-wav": "The file is not WAV, and only WAV is accepted (--wav-only).",
    "ray-failed": "The cluster of Ray failed, or a node of it lacks a package.",
    "too-few-clips": "No held-out recording of a label can be read to test the model file.",
    "too-large": "The model file would be larger than ms-edge loads; export it with features as its input.",
    "too-long": "The file decodes to more audio than its size allows, or took too long to read.",
    "too-short": "The recording is too short to classify or to use.",
    "unexpected-error": "An error of ms-edge itself, met while it read the recording; please report it.",
    "usage": "The arguments of the command or the call are not valid together.",
    "worker-died": "The process that read the recording ended before it gave an answer.",
    "wrong-run": "The model file was not made from this run folder.",
}
