"""Which onnxruntime execution providers to ask for, and whether they were obtained."""

from __future__ import annotations

from collections.abc import Sequence

from ms_edge.errors import DeviceError, UsageError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Provider = str | tuple[str, dict[str, int]]


def requested_providers(device: str, available: Sequence[str]) -> list[Provider]:
    """Providers to create a session with, best first, for `auto`, `cpu`, `cuda` or `cuda:N`.

    `available` is what this build of onnxruntime could use. `auto` may fall back to the CPU, a named device may not.
    Raises UsageError for a device it does not know, DeviceError for one this build cannot use.
    """
    name, _, index = device.partition(":")
    if device == "cpu":
        return [CPU]
    if device == "auto":
        return [CUDA, CPU] if CUDA in available else [CPU]
    if name != "cuda" or (":" in device and not index.isdecimal()):
        raise UsageError("usage", f"There is no device {device!r}; give auto, cpu, cuda or cuda:N.")
    if CUDA not in available:
        raise DeviceError(
            "no-cuda",
            f"{device} was asked for, but this onnxruntime has no CUDA; type: pip install 'ms-edge[gpu]' (and uninstall onnxruntime)",
        )
    return [(CUDA, {"device_id": int(index or 0)})]


def obtained_provider(device: str, obtained: Sequence[str]) -> str:
    """The provider a session really runs on. Raises DeviceError where a device asked for by name was not obtained."""
    provider = obtained[0]
    if device.startswith("cuda") and provider != CUDA:
        # onnxruntime falls back without a word; its list of available providers proves nothing either.
        raise DeviceError(
            "no-cuda",
            f"{device} was asked for, but onnxruntime fell back to {provider}; is there a CUDA device and driver?",
        )
    return provider
