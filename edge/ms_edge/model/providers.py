"""Choose the onnxruntime execution providers for a device, and check which one a session got.

These are pure functions that do not import onnxruntime, so tests need no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from ms_edge.errors import DeviceError, UsageError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# Every build lists this provider. It calls remote services, and runs our models on the CPU.
REMOTE = "AzureExecutionProvider"
SUFFIX = "ExecutionProvider"
Provider = str | tuple[str, dict[str, str]]
# TF32 keeps 10 bits of each factor. Its error is a thousand times the difference that we allow
# between machines. Whenever the shape of an input changes, onnxruntime searches a way to compute
# each convolution. HEURISTIC takes 0.3 s for the bundled model, EXHAUSTIVE, the default of
# onnxruntime, 0.5 s for no faster ones, and DEFAULT 0.03 s for ones that take ten times as long.
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


def requested_providers(device: str, available: Sequence[str]) -> list[Provider]:
    """Return the providers to create a session with, the preferred one first.

    `device` is `auto`, `cpu`, `cuda`, `cuda:N` or the name of a provider, in any case, with or
    without "ExecutionProvider". `available` are the providers of this build of onnxruntime. Only
    `auto` may fall back to the CPU. Raises UsageError for a device that does not exist, DeviceError
    for one that this build does not support.
    """
    kind, colon, index = device.lower().partition(":")
    if colon and not (kind == "cuda" and index.isascii() and index.isdecimal()):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or a provider's name, not {device!r}.")
    if kind == "cpu":
        return [CPU]
    if kind == "auto":
        return [(CUDA, CUDA_OPTIONS), CPU] if CUDA in available else [CPU]
    if kind == "cuda":
        if CUDA not in available:
            raise DeviceError(
                "no-cuda",
                f"The device {device} is not available: this onnxruntime has no CUDA. Type in a clone of ms-edge: "
                "pip uninstall onnxruntime && pip install '.[gpu]'",
            )
        return [(CUDA, {"device_id": index or "0", **CUDA_OPTIONS})]
    here = [name for name in available if name != REMOTE]
    for name in here:
        if kind in (name.lower(), name.removesuffix(SUFFIX).lower()):
            return [name]
    names = ", ".join(name.removesuffix(SUFFIX) for name in here)
    raise DeviceError("no-device", f"The device {device} is not available: this onnxruntime has only {names}.")


def obtained_provider(requested: Sequence[Provider], obtained: Sequence[str]) -> str:
    """Return the provider that a session runs on.

    Raises DeviceError(`no-device`) if it is none of the requested ones.
    """
    wanted = [provider if isinstance(provider, str) else provider[0] for provider in requested]
    if not obtained or obtained[0] not in wanted:
        # onnxruntime falls back to the CPU silently, and it lists providers as available that do
        # not work.
        raise DeviceError(
            "no-device",
            f"The device {wanted[0].removesuffix(SUFFIX)} is not available: onnxruntime runs on "
            f"{(obtained or ['nothing'])[0]} instead. Check the device and its driver.",
        )
    return obtained[0]


def fell_back(requested: Sequence[Provider], provider: str) -> bool:
    """Return whether a session runs on another provider than the first one that was requested."""
    return bool(requested) and provider != (requested[0] if isinstance(requested[0], str) else requested[0][0])
