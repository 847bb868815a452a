"""Records state when a recording began, if its container does."""

from __future__ import annotations

import io
import struct

import pytest
from hostile import DATA, FMT, LIST, PCM, RATE, chunk, wav

from ms_edge.audio.facts.times import utc
from ms_edge.audio.file import AudioFile
from ms_edge.classifier import Classifier
from ms_edge.results import Classification

AT_NOON = 12 * 3600 * RATE


def bext(date: bytes = b"2024-05-06", time: bytes = b"12:00:00", reference: int = AT_NOON) -> bytes:
    """Return a `bext` chunk of version 1 (EBU Tech 3285)."""
    text = b"an interview".ljust(256, b"\0") + b"a recorder".ljust(32, b"\0") + bytes(32)
    return chunk(b"bext", text + date + time + struct.pack("<QH", reference, 1) + bytes(254) + b"A=PCM,M=mono\r\n")


def recorded_at(content: bytes) -> str | None:
    with AudioFile(io.BytesIO(content)) as audio:
        return audio.recorded_at


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((FMT, bext(), DATA), "2024-05-06T12:00:00"),
        ((bext(), FMT, LIST, DATA), "2024-05-06T12:00:00"),
        ((FMT, DATA, LIST, bext()), "2024-05-06T12:00:00"),
        ((FMT, bext(reference=AT_NOON + RATE // 4), DATA), "2024-05-06T12:00:00.250"),
        ((FMT, bext(reference=3600 * RATE), DATA), "2024-05-06T12:00:00"),  # the time line of an editor
        ((FMT, bext(b"2024:05:06", b"12.00.00", 0), DATA), "2024-05-06T12:00:00"),
        ((FMT, bext(b"1951_02_28", b"23 59 59", 0), DATA), "1951-02-28T23:59:59"),
        ((FMT, bext(bytes(10), bytes(8), 0), DATA), None),
        ((FMT, bext(b"0000-00-00", b"00:00:00", 0), DATA), None),
        ((FMT, bext(b"2024-13-06"), DATA), None),
        ((FMT, bext(b"2024-05-06", bytes(8)), DATA), None),
        ((FMT, bext(b"9999-05-06"), DATA), None),
        ((FMT, chunk(b"bext", b"\xff" * 602), DATA), None),
        ((FMT, chunk(b"bext", b""), DATA), None),
        ((FMT, DATA), None),
    ],
)
def test_broadcast_wave_states_its_local_time(chunks, expected):
    assert recorded_at(wav(*chunks)) == expected


def test_rf64_states_its_local_time():
    sizes = chunk(b"ds64", struct.pack("<QQQI", len(PCM) + 900, len(PCM), len(PCM) // 2, 0))
    content = wav(sizes, bext(), FMT, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF, magic=b"RF64")
    assert recorded_at(content) == "2024-05-06T12:00:00"


def test_stream_states_its_local_time():
    class Forward(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise OSError

    with AudioFile(Forward(wav(bext(), FMT, chunk(b"data", PCM, 0xFFFFFFFF)))) as audio:
        assert sum(map(len, audio.blocks(RATE))) == len(PCM) // 2
        assert audio.recorded_at == "2024-05-06T12:00:00"


def test_record_contains_the_time(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(FMT, bext(), DATA))
    found = Classifier().classify(tmp_path / "a.wav")
    assert isinstance(found, Classification)
    assert found.record()["recorded_at"] == "2024-05-06T12:00:00"
    assert found.warnings == ()


@pytest.mark.parametrize("unix_s", [-2_082_844_800, 0, 60, 1e12, 1e300, -1e300])
def test_clock_that_was_never_set_states_nothing(unix_s):
    assert utc(unix_s) is None


def test_offset_moves_the_time():
    assert utc(1_714_953_600) == "2024-05-06T00:00:00Z"
    assert utc(1_714_953_600, 1.5) == "2024-05-06T00:00:01.500Z"
