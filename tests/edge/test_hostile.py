"""No file may hang or crash ms-edge, or give a wrong result without a warning.

Tested with all cases of `hostile.py`, and with generated files.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import struct
import sys
from pathlib import Path

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ms_edge.audio.parts import ogg_parts
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import AudioError
from ms_edge.results import Classification, Failure

CASES = {**hostile.CASES, **(hostile.POSIX_CASES if os.name == "posix" else {})}
LARGE = "4 GB, sparse"  # decoded for eight seconds


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, dict]:
    """The record of every case but the large one, from one run on all files."""
    return answered(tmp_path_factory.mktemp("hostile"), [name for name in CASES if name != LARGE])


def answered(directory: Path, names: list[str]) -> dict[str, dict]:
    """The records of these cases, from one run."""
    home = Path.cwd()
    paths = {name: directory / f"{number:03}.wav" for number, name in enumerate(names)}
    for name, path in paths.items():
        CASES[name].make(path)
    os.chdir(home)
    # Directories keep their own name; a list of files has the files inside them.
    (directory / "list").write_bytes(b"\0".join(os.fsencode(path) for path in paths.values()))
    out = directory / "records.jsonl"
    status = cli.main(["classify", "-q", "--jobs", "2", "-0", "--files-from", str(directory / "list"), "-o", str(out)])
    assert status == 1
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["path"] for record in records] == [str(path) for path in paths.values()]
    return dict(zip(paths, records, strict=True))


@pytest.mark.parametrize("name", [name for name in CASES if name != LARGE])
def test_each_case_has_its_pinned_warnings(answers, name):
    assert_pinned(answers[name], name)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="elsewhere the file would not be sparse")
def test_the_large_case_has_its_pinned_warnings(tmp_path):
    assert_pinned(answered(tmp_path, [LARGE, "plain", "one byte"])[LARGE], LARGE)


def assert_pinned(record: dict, name: str) -> None:
    expected = CASES[name].expected
    if isinstance(expected, str):
        if name == "directory":  # the command line looks inside
            expected = "no-audio"
        assert record["error"]["code"] == expected
        message = record["error"]["message"]
        assert message.startswith(record["path"])
        assert message.endswith(".")
        assert "\n" not in message
        return
    assert tuple(record["warnings"]) == expected
    assert all(0 <= score <= 1 for score in record["scores"].values())
    assert sum(record["seconds"].values()) == pytest.approx(record["duration_s"], abs=1e-6)
    assert math.isfinite(record["probability"])


@pytest.mark.parametrize("name", [name for name in CASES if name not in {"directory", "missing", *hostile.POSIX_CASES}])
def test_file_object_has_the_warnings_of_its_file(answers, tmp_path, name):
    CASES[name].make(tmp_path / "a.wav")
    content = io.BytesIO((tmp_path / "a.wav").read_bytes())
    content.seek(7)  # a file object is still read from its beginning
    content.name = answers[name]["path"]
    try:
        found = CLASSIFIER.classify(content).record()
    except AudioError as error:
        found = Failure(content.name, error.code, error.message).record()
    for key in ("file", "settings"):
        assert found.pop(key, None) is None or key == "settings"
    assert found == {key: value for key, value in answers[name].items() if key not in ("file", "settings", "checksum")}


def test_every_case_of_the_matrix_runs():
    assert len(hostile.CASES) + len(hostile.POSIX_CASES) >= 80


def test_unreadable_file_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(hostile.plain())
    opened = os.open

    def refuse(path, *rest):
        if str(path).endswith("a.wav"):  # these tests may run as root, who may read every file
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AudioError, match="permission denied") as caught:
        Classifier().classify(tmp_path / "a.wav")
    assert caught.value.code == "no-permission"


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
@pytest.mark.parametrize(
    "name", [b"a\nb.wav", b"\xff\xfe.wav", b"-.wav", b"a\tb\"c'd\\.wav", "\u202e\u2028.wav".encode()]
)
@pytest.mark.parametrize("form", ["text", "jsonl", "json", "csv", "tsv", "audacity", "rttm", "textgrid", "webvtt"])
def test_any_name_is_written_in_any_format(tmp_path, name, form):
    path = os.path.join(str(tmp_path), os.fsdecode(name))
    with open(path, "wb") as file:
        file.write(hostile.plain())
    out = tmp_path / "out"
    assert cli.main(["classify", path, "--format", form, "-o", str(out)]) == 0
    content = out.read_bytes()
    assert content.endswith(b"\n")
    if form == "jsonl":
        assert json.loads(content)["path"] == path
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")))
        assert [row["path"] for row in rows] == [path]


names = st.sampled_from([b"fmt ", b"data", b"LIST", b"ds64", b"fact", b"JUNK", b"\0\0\0\0", b"bext"])
sizes = st.one_of(
    st.none(), st.integers(0, 100), st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 0x7FFFFFFF, 0xFFFFFFFF])
)
number = st.one_of(st.sampled_from([0, 1, 2, 8, 16, 24, 32, 64, 8000, 44100, 65535]), st.integers(0, 0xFFFFFFFF))
formats = st.builds(
    lambda tag, channels, rate, byte_rate, frame, bits: struct.pack(
        "<HHIIHH", tag & 0xFFFF, channels & 0xFFFF, rate, byte_rate, frame & 0xFFFF, bits & 0xFFFF
    ),
    st.one_of(st.sampled_from([1, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0xFFFE]), number),
    st.one_of(st.integers(1, 3), number),
    st.one_of(st.sampled_from([8000, 16000, 44100, 384_000]), number),
    number,
    st.one_of(st.sampled_from([1, 2, 4]), number),
    st.one_of(st.sampled_from([8, 16, 24, 32]), number),
)
bodies = st.one_of(st.binary(max_size=64), formats, st.sampled_from([hostile.PCM, hostile.PCM[:9_999], hostile.fmt()]))
chunks = st.lists(st.builds(hostile.chunk, names, bodies, sizes), max_size=6)
sound = st.builds(
    lambda before, form, between, size, after: [
        *before,
        hostile.chunk(b"fmt ", form),
        *between,
        hostile.chunk(b"data", hostile.PCM, size),
        *after,
    ],
    chunks,
    st.one_of(formats, st.just(hostile.fmt())),
    chunks,
    sizes,
    chunks,
)
files = st.builds(
    lambda parts, size, magic: hostile.wav(*parts, size=size, magic=magic),
    st.one_of(chunks, sound),
    sizes,
    st.sampled_from([b"RIFF", b"RIFF", b"RIFX", b"RF64"]),
)
flips = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)


@settings(
    max_examples=3 * settings.default.max_examples,
    deadline=20_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.slow
@given(content=files, flipped=flips, cut=st.one_of(st.none(), st.integers(0, 70_000)))
def test_any_riff_file_gives_result_or_error(tmp_path, content, flipped, cut):
    broken = bytearray(content)
    for place, value in flipped:
        if place < len(broken):
            broken[place] ^= value
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(broken[:cut]))
    result = classify_one(path)
    if isinstance(result, Failure):
        assert result.message.startswith(str(path))
        assert "\n" not in result.message
        return
    found = result
    # No file of this size holds an hour: memory and time depend on its bytes, not on what it declares.
    assert found.duration_s < 3600
    assert all(0 <= score <= 1 for score in found.scores.values())
    assert found.segments[0].start_s == 0
    assert found.segments[-1].end_s == found.duration_s
    assert all(a.end_s == b.start_s for a, b in zip(found.segments, found.segments[1:], strict=False))


pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *[hostile.encoded(hostile.SOUND[:8_000], form="OGG", subtype=subtype) for subtype in ("VORBIS", "OPUS")],
                *[hostile.encoded(hostile.SOUND[:8_000], form="MP3", subtype="MPEG_LAYER_III", rate=rate) for rate in (16_000, 24_000)],
                hostile.encoded(hostile.SOUND[:8_000], form="FLAC"),
                hostile.ID3, b"TAG" + bytes(125), b"OggS" + b"\xff" * 30, b"APETAGEX" + bytes(24), bytes(5_000),
            ]
        ),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


@settings(
    max_examples=settings.default.max_examples,
    deadline=20_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(joined=pieces, flipped=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=4))
def test_any_joined_file_gives_result_or_error(tmp_path, joined, flipped):
    content = bytearray(b"".join(joined))
    for place, value in flipped:
        if place < len(content):
            content[place] ^= value
    path = tmp_path / "a.ogg"
    path.write_bytes(content)
    found = classify_one(path)
    if isinstance(found, Classification):
        assert found.duration_s < 60
        assert found.segments[-1].end_s == found.duration_s


def test_ogg_pages_of_wrong_length_end_quickly():
    content = (b"OggS" + bytes(22) + b"\xff" * 5) * 100_000
    assert ogg_parts(lambda offset, count: content[offset : offset + count]) == [0]


CLASSIFIER = Classifier()


def classify_one(path: Path) -> Classification | Failure:
    try:
        return CLASSIFIER.classify(path)
    except AudioError as error:
        return Failure(str(path), error.code, error.message)
