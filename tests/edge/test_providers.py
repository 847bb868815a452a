from __future__ import annotations

import pytest

from ms_edge.errors import DeviceError, UsageError
from ms_edge.providers import CPU, CUDA, obtained_provider, requested_providers


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", [CUDA, CPU], [CPU]),
        ("auto", [CPU], [CPU]),
        ("auto", [CUDA, CPU], [CUDA, CPU]),
        ("cuda", [CUDA, CPU], [(CUDA, {"device_id": 0})]),
        ("cuda:3", [CUDA, CPU], [(CUDA, {"device_id": 3})]),
    ],
)
def test_providers_asked_for(device, available, expected):
    assert requested_providers(device, available) == expected


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(UsageError):
        requested_providers(device, [CUDA, CPU])


def test_cuda_asked_of_a_cpu_build_is_an_error():
    with pytest.raises(DeviceError, match=r"ms-edge\[gpu\]"):
        requested_providers("cuda", [CPU])


def test_a_silent_fallback_is_an_error_only_for_a_named_device():
    assert obtained_provider("auto", [CPU]) == CPU
    assert obtained_provider("cuda", [CUDA, CPU]) == CUDA
    with pytest.raises(DeviceError, match="fell back"):
        obtained_provider("cuda:1", [CPU])
