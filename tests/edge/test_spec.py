from __future__ import annotations

import dataclasses
import json

import pytest

from ms_edge.errors import ModelError
from ms_edge.features.spec import FrontEndSpec, MelSpec

SPEC = FrontEndSpec(22_050, 2048, 512, 256, clip_s=5.0, hop_s=5.0, log_floor=1e-3)
MEL = FrontEndSpec(
    16_000, 512, 320, 512, clip_s=1.0, hop_s=0.5, mel=MelSpec(48, 60.0, 7600.0), log_floor=0.03, layout="frames_bins"
)


@pytest.mark.parametrize("spec", [SPEC, MEL])
def test_spec_survives_json(spec):
    assert FrontEndSpec.from_json(spec.to_json()) == spec


def test_feature_shape_is_the_published_one():
    assert SPEC.feature_shape == (129, 212)
    assert MEL.feature_shape == (49, 48)


def test_digest_covers_trained_fields_only():
    changes = {
        "sample_rate_hz": 22_000, "frame_length": 2047, "frame_step": 511, "fft_length": 512, "clip_s": 5.5, "magnitude": "power",
        "mel": MelSpec(40, 0.0, 8000.0), "log_floor": None, "layout": "frames_bins",
    }  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(FrontEndSpec)} - {"hop_s", "window"}
    digests = {dataclasses.replace(SPEC, **{name: value}).digest for name, value in changes.items()}
    assert len(digests | {SPEC.digest}) == len(changes) + 1
    assert dataclasses.replace(SPEC, hop_s=0.5).digest == SPEC.digest


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate_hz": 0}, {"sample_rate_hz": 16000.5}, {"sample_rate_hz": True}, {"frame_length": -1}, {"frame_step": 0},
        {"clip_s": 10**400}, {"log_floor": 10**400}, {"frame_step": 1, "fft_length": 1 << 16, "clip_s": 60},
        {"mel": {"bands": 48, "low_hz": 60.0, "high_hz": 60.00000000000001}},
        {"frame_step": 1 << 40}, {"fft_length": 255}, {"clip_s": float("nan")}, {"clip_s": 1e9}, {"clip_s": 0.01}, {"hop_s": 0},
        {"frame_length": 1, "frame_step": 1, "sample_rate_hz": 384_000, "clip_s": 0.0007, "hop_s": 0.0007},
        {"frame_length": 1, "frame_step": 1, "fft_length": 2, "mel": {"bands": 1024, "low_hz": 0, "high_hz": 8000}},
        {"fft_length": 1 << 16, "mel": {"bands": 1024, "low_hz": 0, "high_hz": 8000}},
        {"hop_s": 6.0}, {"window": "hamming"}, {"magnitude": "phase"}, {"layout": "rows"}, {"log_floor": 0.0}, {"log_floor": "1"},
        {"log_floor": 1e299}, {"log_floor": 1e-60},
        {"mel": {"bands": 10**9, "low_hz": 0, "high_hz": 8000}}, {"mel": {"bands": 40, "low_hz": 0, "high_hz": 80000}},
        {"mel": {"bands": 40, "low_hz": 500, "high_hz": 100}}, {"mel": []}, {"unknown": 1},
    ],
)  # fmt: skip
def test_invalid_front_ends_are_refused(change):
    text = json.dumps({**json.loads(SPEC.to_json()), **change})
    with pytest.raises(ModelError, match="spec is not usable"):
        FrontEndSpec.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_text_without_json_object_is_refused(text):
    with pytest.raises(ModelError):
        FrontEndSpec.from_json(text)
