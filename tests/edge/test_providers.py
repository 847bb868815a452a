from __future__ import annotations

import pytest

from ms_edge.errors import DeviceError, UsageError
from ms_edge.model.providers import CPU, CUDA, CUDA_OPTIONS, fell_back, obtained_provider, requested_providers

VINO = "OpenVINOExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", [CUDA, CPU], [CPU]),
        ("CPU", [CPU], [CPU]),
        ("auto", [CPU], [CPU]),
        ("auto", [CUDA, CPU], [(CUDA, CUDA_OPTIONS), CPU]),
        ("auto", [VINO, CPU], [CPU]),
        ("cuda", [CUDA, CPU], [(CUDA, {"device_id": "0", **CUDA_OPTIONS})]),
        ("cuda:3", [CUDA, CPU], [(CUDA, {"device_id": "3", **CUDA_OPTIONS})]),
        ("openvino", [VINO, CPU], [VINO]),
        (VINO, [VINO, CPU], [VINO]),
    ],
)
def test_requested_providers_for_each_device(device, available, expected):
    assert requested_providers(device, available) == expected


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda:\u0663"])
def test_invalid_devices_are_usage_errors(device):
    with pytest.raises(UsageError):
        requested_providers(device, [CUDA, CPU])


@pytest.mark.parametrize(
    ("device", "hint"),
    [
        ("cuda", r"'\.\[gpu\]'"),
        ("cuda:1", r"'\.\[gpu\]'"),
        ("tpu", "only CPU"),
        ("azure", "only CPU"),
        ("", "only"),
    ],
)
def test_unsupported_devices_are_device_errors(device, hint):
    with pytest.raises(DeviceError, match=hint):
        requested_providers(device, ["AzureExecutionProvider", CPU])


def test_tf32_is_off_on_cuda():
    assert CUDA_OPTIONS == {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


@pytest.mark.parametrize(
    ("requested", "obtained", "provider", "fell"),
    [
        ([CPU], [CPU], CPU, False),
        ([(CUDA, {}), CPU], [CUDA, CPU], CUDA, False),
        ([(CUDA, {}), CPU], [CPU], CPU, True),
        ([(CUDA, {})], [CUDA, CPU], CUDA, False),
        ([VINO], [VINO, CPU], VINO, False),
    ],
)
def test_obtained_provider_is_the_one_that_runs(requested, obtained, provider, fell):
    assert obtained_provider(requested, obtained) == provider
    assert fell_back(requested, provider) is fell


@pytest.mark.parametrize("obtained", [[CPU], []])
def test_silent_fallback_from_named_device_is_an_error(obtained):
    with pytest.raises(DeviceError, match="CUDA is not available: onnxruntime runs on"):
        obtained_provider([(CUDA, {"device_id": "1"})], obtained)
