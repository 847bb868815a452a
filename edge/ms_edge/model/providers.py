"""Which onnxruntime execution providers to ask for, and whether they were obtained. Pure functions: no onnxruntime here."""

from __future__ import annotations

from collections.abc import Sequence

from ms_edge.errors import DeviceError, UsageError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# Every build lists it; it calls services elsewhere, and leaves a whole model to the CPU.
REMOTE = "AzureExecutionProvider"
SUFFIX = "ExecutionProvider"
Provider = str | tuple[str, dict[str, str]]
# TF32 keeps 10 bits of each factor: fast, and a thousand times what a classification may differ by between machines.
CUDA_OPTIONS = {"use_tf32": "0"}


def requested_providers(device: str, available: Sequence[str]) -> list[Provider]:
    """Providers to create a session with, best first, for `auto`, `cpu`, `cuda`, `cuda:N` or a provider's name.

    `available` is what this build of onnxruntime could use; names are matched without case, with or without
    "ExecutionProvider". `auto` may fall back to the CPU, a named device may not. Raises UsageError for a device that cannot
    be meant, DeviceError for one this build cannot use.
    """
    kind, colon, index = device.lower().partition(":")
    if colon and not (kind == "cuda" and index.isascii() and index.isdecimal()):
        raise UsageError(f"There is no device {device!r}; give auto, cpu, cuda, cuda:N or a provider's name.")
    if kind == "cpu":
        return [CPU]
    if kind == "auto":
        return [(CUDA, CUDA_OPTIONS), CPU] if CUDA in available else [CPU]
    if kind == "cuda":
        if CUDA not in available:
            raise DeviceError(
                "no-cuda",
                f"{device} was asked for, but this onnxruntime has no CUDA; type in a clone of ms-edge: "
                "pip uninstall onnxruntime && pip install '.[gpu]'",
            )
        return [(CUDA, {"device_id": index or "0", **CUDA_OPTIONS})]
    here = [name for name in available if name != REMOTE]
    for name in here:
        if kind in (name.lower(), name.removesuffix(SUFFIX).lower()):
            return [name]
    names = ", ".join(name.removesuffix(SUFFIX) for name in here)
    raise DeviceError("no-device", f"{device} was asked for, but this onnxruntime has only {names}.")


def obtained_provider(requested: Sequence[Provider], obtained: Sequence[str]) -> str:
    """The provider a session really runs on. Raises DeviceError where a device asked for by name was not obtained."""
    wanted = [provider if isinstance(provider, str) else provider[0] for provider in requested]
    if not obtained or obtained[0] not in wanted:
        # onnxruntime falls back without a word; its list of available providers proves nothing either.
        raise DeviceError(
            "no-device",
            f"{wanted[0].removesuffix(SUFFIX)} was asked for, but onnxruntime runs on {(obtained or ['nothing'])[0]};"
            " is there such a device, and its driver?",
        )
    return obtained[0]


def fell_back(requested: Sequence[Provider], provider: str) -> bool:
    """Whether a session runs on less than the first provider it was asked for."""
    return bool(requested) and provider != (requested[0] if isinstance(requested[0], str) else requested[0][0])
