"""The readers of untrusted bytes and texts, each as a function that raises for a broken rule.

`parsers.py` runs a target with atheris. `test_fuzz.py` runs all of them with a few inputs, so that they
keep working. A target may raise nothing: it catches the error that the reader documents, and asserts
what the reader promises.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path

from decoders import seeds_of

from ms_edge.audio import facts as facts_package
from ms_edge.audio.facts.dispatch import facts_of
from ms_edge.audio.mpeg import mpeg_parts
from ms_edge.audio.parts import ogg_end, ogg_parts
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.riff import is_wav, read_header
from ms_edge.cli.arguments import parser
from ms_edge.cli.stream import Options
from ms_edge.errors import ModelError, UsageError
from ms_edge.jobs.inputs import _names, parse_shard
from ms_edge.model.check import read_contents
from ms_edge.model.metadata import Metadata
from ms_edge.output.journal import EarlierRecords
from ms_edge.output.writers import CHECKSUM, checksum

for found in pkgutil.iter_modules(facts_package.__path__, f"{facts_package.__name__}."):
    import_module(found.name)  # atheris sees the branches of what is imported now, not of what is imported later

DATA = Path(__file__).parent.parent / "data"
MODEL = (DATA / "steps.onnx").read_bytes()
ENTRIES = read_contents(MODEL).entries
OPTIONS = {name: value for name, value in vars(parser().parse_args(["stream", "-"])).items() if name != "command"}
MAX_READS, MAX_READ_BYTES = 20_000, 1 << 28  # of one parse of a file of at most MAX_INPUT bytes
MAX_INPUT = 1 << 16


class File:
    """The bytes of a file, read at offsets as parsers do. It counts what they read."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.reads = self.read_bytes = 0

    def __call__(self, offset: int, count: int) -> bytes:
        assert offset >= 0, offset
        assert count >= 0, count
        found = self._content[offset : offset + min(count, 1 << 20)]
        self.reads += 1
        self.read_bytes += len(found)
        assert self.reads <= MAX_READS, "too many reads"
        assert self.read_bytes <= MAX_READ_BYTES, "too many bytes"
        return found


def riff(data: bytes) -> None:
    """The header of a WAV file, and of a WAV stream."""
    is_wav(data[:40])
    for size in (len(data), None):
        header = read_header(File(data), size)
        if header:
            assert 0 < header.data_offset <= len(data)
            assert header.data_bytes >= 0


def ogg(data: bytes) -> None:
    """The recordings in an Ogg file."""
    falls: list[int] = []
    starts = ogg_parts(File(data), falls)
    assert len(falls) == len(starts)
    assert min(falls) >= 0
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] <= len(data)
    assert ogg_end(File(data), len(data)) in (None, "truncated", "damaged")


def mpeg(data: bytes) -> None:
    """The frames of MPEG audio."""
    parts, warnings = mpeg_parts(File(data), 0, len(data))
    borders = [border for part in parts for stretch in part.stretches for border in stretch]
    assert borders == sorted(borders)
    assert not borders or borders[-1] <= len(data)
    assert all(part.samples >= 0 and part.length >= 0 for part in parts)
    assert set(warnings) <= {"truncated", "damaged", "bad-header"}


def facts(data: bytes) -> None:
    """What any container states about its audio."""
    for track in (1, 2):
        found = facts_of(File(data), len(data), track)
        assert found.samples is None or 0 <= found.samples < 1 << 64
        assert found.sample_rate_hz is None or found.sample_rate_hz > 0
        assert found.slack_s >= 0
        assert found.packets >= 0
        assert all(0 <= at <= len(data) - 4 and number <= len(data) + 1 for at, number in found.lowered)
        assert found.recorded_at is None or found.recorded_at.isascii()
        found.more_than(1, 8_000)


def texts(data: bytes) -> None:
    """The values of --raw, --shard and --threshold."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(UsageError):
        form = RawFormat.parse(text)
        assert RawFormat.parse(str(form)) == form
    with contextlib.suppress(UsageError):
        index, count = parse_shard(text)
        assert 1 <= index <= count
    with contextlib.suppress(UsageError):
        given = Options(**{**OPTIONS, "threshold": [text]})
        assert all(given.thresholds())


def names(data: bytes) -> None:
    """A list of files, with lines or with NUL."""
    for separator in (b"\n", b"\0"):
        with contextlib.suppress(UsageError):
            for name in _names(io.BytesIO(data), "list", separator):
                assert name
                assert os.fsencode(name) in data


def model(data: bytes) -> None:
    """A model file."""
    with contextlib.suppress(ModelError):
        found = read_contents(data)
        assert found.window_values >= 0
        with contextlib.suppress(ModelError):
            Metadata.parse(found.entries)


def metadata(data: bytes) -> None:
    """The metadata of a model: its entries in a fixed order, separated by NUL."""
    values = data.decode("utf-8", "replace").split("\0")
    with contextlib.suppress(ModelError):
        found = Metadata.parse(dict(zip(ENTRIES, values, strict=False)))
        assert len(found.labels) >= 2
        assert len(found.golden.scores) == len(found.labels)


def journal(data: bytes) -> None:
    """Records of an earlier run. Each line is given a valid checksum, so that its content is read."""
    lines = data.split(b"\n")
    written = b"".join(line + CHECKSUM.encode() + checksum(line + b"}").encode() + b'"}\n' for line in lines)
    # A file that exists only in memory.
    descriptor = os.memfd_create("journal")
    try:
        os.write(descriptor, written + data)
        earlier = EarlierRecords(f"/proc/self/fd/{descriptor}")
        for path, channel in product(("a.wav", *_paths(lines)), (None, 1)):
            line, record = earlier.find(path, channel)
            assert not record or (record["path"] == path and record.get("channel") == channel and line.endswith("\n"))
        earlier.close()
    finally:
        os.close(descriptor)


def _paths(lines: list[bytes]) -> list[str]:
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError):
            found.append(str(json.loads(line + b"}")["path"]))
    return found


@dataclass(frozen=True)
class Target:
    """A function that reads bytes, and the inputs that changes begin with."""

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _audio(*patterns: str) -> Callable[[], list[bytes]]:
    return lambda: [content for pattern in patterns for content in seeds_of(pattern).values()]


RECORD = (
    b'{"schema": "ms-edge/1", "path": "a.wav", "label": "speech", "probability": 0.75, "scores": {"speech": 0.75}, '
    b'"file": {"bytes": 6444, "modified": "2026-01-02T03:04:05.000000Z"}, "warnings": []'
)
TEXTS = [b"16000:1:s16le", b"8000:2:mulaw", b"2/8", b"speech=0.6", b"a=b=1e-3", b"1/0", b"speech=nan"]
TARGETS = {
    "riff": Target(riff, _audio("*.wav", "*.rf64", "*.w64", "*.avi")),
    "ogg": Target(ogg, _audio("*.ogg", "*.opus", "*.oga")),
    "mpeg": Target(mpeg, _audio("*.mp3", "*.mp2", "*.mpg", "mp?.wav")),
    "facts": Target(facts, _audio("*")),
    "texts": Target(texts, lambda: TEXTS),
    "names": Target(names, lambda: [b"a.wav\nb.wav\n", b"a.wav\0b\n.wav\0", b"\xff\n\r\n-\n"]),
    "model": Target(model, lambda: [MODEL]),
    "metadata": Target(metadata, lambda: ["\0".join(ENTRIES.values()).encode()]),
    "journal": Target(journal, lambda: [RECORD, RECORD + b"\n" + RECORD.replace(b"a.wav", b"\\ud800")]),
}
