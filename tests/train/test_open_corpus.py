import dataclasses
import hashlib
import io
import re
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ms_edge.errors import AudioError, MsEdgeError
from ms_train.datasets import open_corpus as corpus

RATE = corpus.RATE_HZ


def tone(seconds=0.5, rate_hz=RATE, hertz=440.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def encoded(samples, rate_hz, form, subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=form, subtype=subtype)
    return file.getvalue()


def decoded(path: Path) -> np.ndarray:
    return np.concatenate(list(corpus.decode(path)))


def assert_sounds_like(samples, expected, tolerance):
    """Equal but for the ends, where a resampler rings and a codec may add or lose a block."""
    assert samples.dtype == np.float32
    assert abs(len(samples) - len(expected)) <= 1
    margin = RATE // 20
    inner = slice(margin, min(len(samples), len(expected)) - margin)
    assert np.abs(samples[inner] - expected[inner]).max() < tolerance


@pytest.fixture(scope="module")
def rows():
    return corpus.manifest()


# The manifest.


def test_every_file_has_a_digest_a_licence_a_label_and_a_length(rows):
    assert len(rows) > 20_000
    for row in rows:
        assert re.fullmatch("[0-9a-f]{64}", row.package_sha256), row
        assert row.licence.strip(), row
        assert row.label in ("music", "speech", "noise", "mixed"), row
        assert float(row.duration_s) > 0, row
        assert row.path == row.path.strip("/ "), row


def test_no_package_is_in_two_of_train_val_and_test_but_the_one_with_other_narrators(rows):
    splits = {}
    for row in rows:
        if row.split != "hard":
            splits.setdefault(row.package, set()).add(row.split)
    assert set.union(*splits.values()) == {"train", "val", "test_a"}
    assert {package for package, where in splits.items() if len(where) > 1} == {"tuxpaint-stamps-default"}
    narrators = {
        split: {
            row.speaker_or_composer for row in rows if row.package == "tuxpaint-stamps-default" and row.split == split
        }
        for split in ("train", "val")
    }
    assert narrators["train"]
    assert narrators["val"]
    assert not narrators["train"] & narrators["val"]


def test_a_file_is_listed_once(rows):
    # Two packages have files of the `hard` split beside files to train on.
    assert len({(row.package, row.container, row.path) for row in rows}) == len(rows)


def test_every_label_to_train_on_comes_from_several_packages(rows):
    packages = {
        label: {row.package for row in rows if (row.split, row.label) == ("train", label)} for label in corpus.LABELS
    }
    effects = {row.package for row in rows if (row.split, row.label) == ("train", "noise")}
    assert len(packages["speech"]) >= 8
    assert len(packages["music"]) >= 12
    assert len(effects) >= 11


def test_a_package_is_one_version_with_one_digest(rows):
    assert len({row.package for row in rows}) == len({(row.package, row.version, row.package_sha256) for row in rows})


def test_decoded_files_do_not_overwrite_each_other_whatever_the_file_system(rows):
    names = {row.flac.lower() for row in rows}
    assert len(names) == len(rows)
    assert all(re.fullmatch(r"audio/[\w.+/-]+\.flac", name) for name in names)
    assert max(len(Path(name).name) for name in names) < 128
    spaced, flat = (dataclasses.replace(rows[0], path=path) for path in ("usr/share/a b.ogg", "usr/share/a_b.ogg"))
    assert spaced.flac != flat.flac


def test_the_game_with_most_dialogue_is_capped_and_nothing_else(rows):
    kept = corpus.wanted(rows, ["train", "val"])
    minutes = sum(float(row.duration_s) for row in kept if row.package == "flight-of-the-amazon-queen") / 60
    assert 89.9 < minutes <= 90
    others = [row for row in rows if row.split in ("train", "val") and row.package not in corpus.CAP_S]
    assert sorted(others, key=lambda row: row.flac) == [row for row in kept if row.package not in corpus.CAP_S]
    # Which ones is a matter of their names, not of the order they come in or of the other splits asked for.
    assert corpus.wanted(rows[::-1], ["train", "val"]) == kept
    assert [row for row in corpus.wanted(rows, ["train", "val", "test_a"]) if row.split != "test_a"] == kept


def test_an_unknown_split_is_named(rows):
    with pytest.raises(MsEdgeError, match="test_b: no such split") as caught:
        corpus.wanted(rows, ["train", "test_b"])
    assert caught.value.code == "usage"


# Containers and codings.


def queen(path: Path, members: dict[str, bytes]) -> Path:
    offset = 15 + 21 * len(members)
    table = b""
    for name, data in members.items():
        table += struct.pack(">12sBII", name.encode(), 0, offset, len(data))
        offset += len(data)
    path.write_bytes(
        b"QTBL"
        + b"PEM10".ljust(8, b"\0")
        + b"\1"
        + struct.pack(">H", len(members))
        + table
        + b"".join(members.values())
    )
    return path


def test_queen_hands_out_each_entry_by_its_name(tmp_path):
    members = {"JOE0001.SB": b"first", "C103K043.SB": b"", "TWELVE.NAMES": b"last \0 one"}
    container = queen(tmp_path / "queen.1c", members)
    assert {name: corpus.read_member(container, name) for name in members} == members
    with pytest.raises(AudioError, match=r"JOE0002\.SB") as caught:
        corpus.read_member(container, "JOE0002.SB")
    assert caught.value.code == "not-found"


@pytest.mark.parametrize("name", ["pak0.pk3", "base.wz"])
def test_containers_of_two_engines_are_zip_files(tmp_path, name):
    container = tmp_path / name
    with zipfile.ZipFile(container, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound/a.wav", b"a" * 999)
    assert corpus.read_member(container, "sound/a.wav") == b"a" * 999
    with pytest.raises(AudioError, match=r"sound/b\.wav"):
        corpus.read_member(container, "sound/b.wav")


def test_als_is_unsigned_bytes_after_32_others(tmp_path):
    path = tmp_path / "30.ALS"
    samples = tone(rate_hz=11_025)
    # The header is loud: taken for audio, it would shift everything and click.
    path.write_bytes(b"\xff\x00" * 16 + np.round(samples * 128 + 128).astype(np.uint8).tobytes())
    assert_sounds_like(decoded(path), tone(), 0.012)


def test_raw_is_little_endian_at_8_khz(tmp_path):
    path = tmp_path / "hts.raw"
    path.write_bytes(np.round(tone(rate_hz=8_000) * 32768).astype("<i2").tobytes())
    assert_sounds_like(decoded(path), tone(), 1e-3)


def test_gsm_is_33_bytes_for_20_ms(tmp_path):
    path = tmp_path / "hello.gsm"
    path.write_bytes(encoded(tone(1.0, 8_000), 8_000, "RAW", "GSM610"))
    assert path.stat().st_size == 50 * 33
    samples = decoded(path)
    assert len(samples) == RATE
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) == 440
    assert 0.3 < np.abs(samples[RATE // 4 :]).max() < 0.7


@pytest.mark.parametrize(("name", "samples_per_byte"), [("odd.raw", 1), ("odd.g722", 2), ("odd.gsm", 320 / 33)])
def test_headerless_files_are_not_taken_for_what_they_resemble(tmp_path, name, samples_per_byte):
    pytest.importorskip("av")
    path = tmp_path / name
    path.write_bytes(encoded(tone(), RATE, "WAV"))
    assert len(decoded(path)) == pytest.approx(path.stat().st_size * samples_per_byte, abs=320)


def test_g722_has_two_samples_a_byte(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "hello.g722"
    with av.open(str(path), "w", format="g722") as file:
        stream = file.add_stream("g722", rate=RATE, layout="mono")
        samples = np.round(tone(1.0) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    heard = decoded(path)
    assert len(heard) == 2 * path.stat().st_size
    assert abs(len(heard) - RATE) <= 1
    assert np.argmax(np.abs(np.fft.rfft(heard))) == 440
    assert 0.45 < np.abs(heard[RATE // 4 : -RATE // 4]).max() < 0.55


def test_other_formats_are_left_to_ffmpeg(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "ring.mkv"
    with av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        left = np.round(tone(rate_hz=48_000) * 32767).astype(np.int16)
        both = np.stack([left, np.zeros_like(left)], axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    assert_sounds_like(decoded(path), tone(amplitude=0.25), 1e-3)


@pytest.mark.parametrize(("name", "form"), [("a.wav", "WAV"), ("a.ogg", "OGG"), ("JOE0001.SB", "WAV")])
def test_files_with_a_header_are_known_by_it_and_channels_averaged(tmp_path, name, form):
    path = tmp_path / name
    left = tone(rate_hz=44_100)
    path.write_bytes(encoded(np.stack([left, np.zeros_like(left)], axis=1), 44_100, form))
    assert_sounds_like(decoded(path), tone(amplitude=0.25), 0.02)


def test_what_nothing_can_read_is_an_audio_error(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / "song.xm"
    path.write_bytes(b"Extended Module: " + bytes(range(256)) * 8)
    with pytest.raises(AudioError, match=r"song\.xm") as caught:
        decoded(path)
    assert caught.value.code == "not-audio"


# Fetching, with folders for packages: no network, no dpkg.


FILES = {
    "usr/share/voice/hello.wav": encoded(tone(0.5, 8_000), 8_000, "WAV"),
    "usr/share/voice/loud.wav": encoded(np.ones(22_050, np.float32), 22_050, "WAV", "FLOAT"),
    "usr/share/voice/broken.wav": b"RIFF" + bytes(100),
    "usr/share/music/song.ogg": encoded(tone(1.0, 44_100), 44_100, "OGG"),
}
DEB = b"pretend package"


@pytest.fixture
def small(monkeypatch):
    """A corpus of two packages; returns the calls made to the world outside."""
    pytest.importorskip("av")

    def row(split, label, package, path, language=""):
        digest = hashlib.sha256(DEB).hexdigest()
        return corpus.Row(split, label, package, "1:2.0", digest, path, "", language, "", "CC0-1.0", "0.5")

    rows = [
        row("train", "speech", "voices", "usr/share/voice/hello.wav", "nl"),
        row("val", "noise", "voices", "usr/share/voice/loud.wav"),
        row("train", "speech", "voices", "usr/share/voice/broken.wav", "nl"),
        row("train", "music", "tunes", "usr/share/music/song.ogg"),
        row("hard", "mixed", "tunes", "usr/share/music/song.ogg"),
    ]
    calls = []

    def download(package, folder):
        calls.append(f"download {package}")
        deb = folder / f"{package.replace('=', '_').replace(':', '%3a')}_all.deb"
        deb.write_bytes(DEB)
        return deb

    def unpack(deb, folder):
        calls.append(f"unpack {deb.name}")
        for path, data in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)

    monkeypatch.setattr(corpus, "manifest", lambda: rows)
    monkeypatch.setattr(corpus, "_download", download)
    monkeypatch.setattr(corpus, "_unpack", unpack)
    return calls


def test_fetch_decodes_to_16_khz_flac_and_the_dataset_says_what_is_there(tmp_path, small, capsys):
    corpus.fetch(tmp_path, ["train", "val"])
    err = capsys.readouterr().err
    assert "3 recordings" in err
    assert "1 files cannot be decoded" in err
    assert "voices: usr/share/voice/broken.wav" in err

    dataset = corpus.open_corpus(tmp_path)
    assert (dataset.name, dataset.labels, dataset.decision) == ("open-corpus", ("speech", "music"), "independent")
    assert dataset.licences == ("CC0-1.0",)
    by_source = {(recording.split, recording.label): recording for recording in dataset.recordings}
    assert set(by_source) == {("train", "speech"), ("train", "music"), ("val", None)}
    assert by_source["train", "speech"].source == "voices/nl"
    assert by_source["train", "music"].source == "tunes"
    for recording in dataset.recordings:
        path = tmp_path / recording.name
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (RATE, 1, "FLAC", "PCM_16")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == recording.sha256

    speech = by_source["train", "speech"]
    assert_sounds_like(speech.read(RATE), tone(), 2e-3)
    assert len(speech.read(8_000)) == 4_000
    assert by_source["val", None].read(RATE).min() > 0.5  # overshoot at full scale is clipped, not wrapped round


def test_a_second_fetch_does_nothing_and_says_so(tmp_path, small, capsys):
    corpus.fetch(tmp_path)
    assert small == [
        "download tunes=1:2.0",
        "unpack tunes_1%3a2.0_all.deb",
        "download voices=1:2.0",
        "unpack voices_1%3a2.0_all.deb",
    ]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    small.clear()
    capsys.readouterr()
    corpus.fetch(tmp_path)
    assert small == []
    assert "nothing to do: 3 recordings" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_an_interrupted_fetch_resumes_and_leaves_no_part_behind(tmp_path, small, monkeypatch):
    store = corpus._store

    def interrupted(row, tree, target):
        if row.path.endswith("loud.wav"):
            raise KeyboardInterrupt
        return store(row, tree, target)

    monkeypatch.setattr(corpus, "_store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        corpus.fetch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "index.tsv", "packages", "skipped.tsv"]
    assert {recording.label for recording in corpus.open_corpus(tmp_path).recordings} == {"music", "speech"}

    small.clear()
    monkeypatch.setattr(corpus, "_store", store)
    corpus.fetch(tmp_path)
    assert small == ["unpack voices_1%3a2.0_all.deb"]
    assert len(corpus.open_corpus(tmp_path).recordings) == 3


def test_a_lost_file_is_decoded_again_and_a_lost_index_rebuilt(tmp_path, small):
    corpus.fetch(tmp_path)
    index = (tmp_path / "index.tsv").read_text()
    lost = tmp_path / corpus.open_corpus(tmp_path).recordings[0].name
    lost.unlink()
    corpus.fetch(tmp_path)
    assert lost.is_file()
    (tmp_path / "index.tsv").unlink()
    written = lost.stat().st_mtime_ns
    corpus.fetch(tmp_path)
    assert (tmp_path / "index.tsv").read_text() == index
    assert lost.stat().st_mtime_ns == written


def test_further_splits_are_added_to_the_same_root(tmp_path, small):
    corpus.fetch(tmp_path, ["val"])
    corpus.fetch(tmp_path, ["hard"])
    lines = (tmp_path / "index.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:2] for line in lines] == [["hard", "mixed"], ["val", "noise"]]
    # What no single label describes is there, but not in the dataset.
    assert [(recording.split, recording.label) for recording in corpus.open_corpus(tmp_path).recordings] == [
        ("val", None)
    ]


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("games_sound_voices_go.ogg", False),
        ("games_music_lost.ogg", False),
        ("games_speech_a.wav", False),
        ("games_hit.wav", True),
    ],
)
def test_effects_named_after_speech_or_music_are_no_noise(tmp_path, path, kept):
    name = f"audio/train/noise/pkg/{path}"
    row = ("train", "noise", "pkg", "", "x", "CC0-1.0", name, "0" * 64, "1.0")
    other = ("train", "speech", "pkg", "", "x", "CC0-1.0", "audio/z.flac", "0" * 64, "1.0")
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(line) for line in (corpus.INDEX, row, other)) + "\n")
    assert [recording.name for recording in corpus.open_corpus(tmp_path).recordings] == [
        *([name] if kept else []),
        "audio/z.flac",
    ]


def test_a_package_with_another_digest_is_never_unpacked(tmp_path, small, monkeypatch):
    rows = [dataclasses.replace(row, package_sha256="0" * 64) for row in corpus.manifest()]
    monkeypatch.setattr(corpus, "manifest", lambda: rows)
    with pytest.raises(MsEdgeError, match=r"tunes_1%3a2\.0_all\.deb.*SHA-256.*put tunes 1:2\.0") as caught:
        corpus.fetch(tmp_path)
    assert caught.value.code == "bad-digest"
    assert not any(call.startswith("unpack") for call in small)
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_damaged_package_on_disk_is_downloaded_again(tmp_path, small):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "voices_1%3a2.0_all.deb").write_bytes(DEB)
    (tmp_path / "packages" / "tunes_1%3a2.0_all.deb").write_bytes(DEB[:-1])
    corpus.fetch(tmp_path)
    assert [call for call in small if call.startswith("download")] == ["download tunes=1:2.0"]
    assert (tmp_path / "packages" / "tunes_1%3a2.0_all.deb").read_bytes() == DEB


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (FileNotFoundError("apt-get"), "no-apt", "apt-get, which downloads it, is not on this machine"),
        ("E: Unable to locate package tunes\n", "no-package", "Unable to locate package tunes"),
        (
            "W: x\nE: Version '1:2.0' for 'tunes' was not found\n",
            "no-package",
            "Version '1:2.0' for 'tunes' was not found",
        ),
        ("E: Failed to fetch http://x  Connection failed\n", "download-failed", "Connection failed"),
        ("", "download-failed", "no reason given"),
    ],
)
def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch, answer, code, message):
    def run(command, **options):
        assert command == ["apt-get", "download", "tunes=1:2.0"]
        assert options["env"]["LC_ALL"] == "C"  # the reason is read from what it prints
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 100, "", answer)

    monkeypatch.setattr(corpus.subprocess, "run", run)
    row = corpus.Row("train", "music", "tunes", "1:2.0", "0" * 64, "a.ogg", "", "", "", "CC0-1.0", "1")
    with pytest.raises(MsEdgeError) as caught:
        corpus._package(tmp_path, row)
    assert caught.value.code == code
    assert message in str(caught.value)
    assert "apt-get update" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "code"), [(FileNotFoundError("dpkg-deb"), "no-dpkg"), ("not a Debian archive", "cannot-unpack")]
)
def test_a_package_that_cannot_be_unpacked_says_why(tmp_path, monkeypatch, answer, code):
    def run(command, **options):
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 2, "", answer)

    monkeypatch.setattr(corpus.subprocess, "run", run)
    with pytest.raises(MsEdgeError, match=r"tunes\.deb.*(dpkg-deb|not a Debian archive)") as caught:
        corpus._unpack(tmp_path / "tunes.deb", tmp_path)
    assert caught.value.code == code


def test_a_folder_without_a_corpus_says_how_to_get_one(tmp_path):
    with pytest.raises(MsEdgeError, match="ms-train data fetch open-corpus --to") as caught:
        corpus.open_corpus(tmp_path / "nowhere")
    assert caught.value.code == "bad-data"
