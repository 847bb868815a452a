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
from ms_train.datasets import corpus_sources, origins
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
    """Compare sound except at the ends, where a resampler rings and a codec may add or lose a
    block.
    """
    assert samples.dtype == np.float32
    assert abs(len(samples) - len(expected)) <= 1
    margin = RATE // 20
    inner = slice(margin, min(len(samples), len(expected)) - margin)
    assert np.abs(samples[inner] - expected[inner]).max() < tolerance


@pytest.fixture(scope="module")
def rows():
    return corpus.manifest()


# The manifest.


def test_every_file_has_digest_licence_label_length(rows):
    assert len(rows) > 20_000
    for row in rows:
        assert re.fullmatch("[0-9a-f]{64}", row.sha256 or row.package_sha256), row
        assert row.licence.strip(), row
        assert "NC" not in row.licence, row
        assert row.label in ("music", "speech", "noise", "mixed"), row
        assert float(row.duration_s) > 0, row
        assert row.path == row.path.strip("/ "), row


def test_repositories_are_pinned_and_state_their_licence(rows):
    cloned = [row for row in rows if origins.is_repository(row.package)]
    assert len({row.package for row in cloned}) >= 20
    for row in cloned:
        assert re.fullmatch("[0-9a-f]{40}", row.version), row
        assert re.fullmatch("[0-9a-f]{64}", row.sha256), row
        assert row.licence_stated, row


def test_speaker_identifiers_cannot_be_looked_up(rows):
    assert not [row for row in rows if re.search("[0-9a-f]{16}", row.speaker_or_composer)]
    numbered = {row.speaker_or_composer for row in rows if row.package.startswith("omnilingo/")}
    assert len(numbered) > 2_000
    assert all(speaker.isdigit() for speaker in numbered)


def test_packages_in_two_parts_differ_by_group(rows):
    splits = {}
    for row in rows:
        if row.split != "hard":
            splits.setdefault((row.package, row.label), set()).add(row.split)
    assert set.union(*splits.values()) == {"train", "val", "calib", "test_a"}
    assert {key for key, where in splits.items() if len(where) > 1} == {
        ("tuxpaint-stamps-default", "speech"),  # other narrators
        ("omnilingo/rsample-100-cv-corpus-6.1-2020-12-11", "speech"),  # other languages and speakers
        ("zhangrui0712/Voice-Age", "speech"),  # other readers
        ("gcompris/GCompris-voices", "speech"),  # other languages, one voice each
        ("global-asp/asp-audio", "speech"),  # other languages
        ("MycroftAI/Precise-Community-Data", "speech"),  # other contributors
        ("karolpiczak/ESC-10", "noise"),  # other kinds
        ("megaglest-data", "noise"),  # nature, and blows
    }
    for package in {package for package, label in splits if len(splits[package, label]) > 1}:
        speech = [row for row in rows if (row.package, row.label) == (package, "speech") and row.split != "hard"]
        parts = {
            split: {row.speaker_or_composer or row.path for row in speech if row.split == split}
            for split in ("train", "val", "calib")
        }
        assert not parts["train"] & (parts["val"] | parts["calib"]), package
        assert not parts["val"] & parts["calib"], package


def test_a_file_is_listed_once(rows):
    # Two packages have files of the `hard` split beside files to train on.
    assert len({(row.package, row.container, row.path) for row in rows}) == len(rows)


def test_every_label_comes_from_several_packages(rows):
    packages = {}
    for row in rows:
        packages.setdefault((row.split, row.label), set()).add(row.package)
    least = {"train": (15, 50, 25), "val": (16, 10, 7), "calib": (4, 4, 4)}
    for split, counts in least.items():
        for label, count in zip(("speech", "music", "noise"), counts, strict=True):
            assert len(packages[split, label]) >= count, (split, label)


def test_training_packages_have_balanced_folds(rows):
    minutes = {}
    for row in rows:
        assert (row.fold in ("0", "1", "2", "3")) == (row.split == "train"), row
        if row.split == "train":
            minutes.setdefault(row.label, {}).setdefault(row.fold, {}).setdefault(row.package, 0)
            minutes[row.label][row.fold][row.package] += float(row.duration_s) / 60
    for label, folds in minutes.items():
        assert len(set().union(*folds.values())) == sum(map(len, folds.values())), label  # no package is in two folds
    held = [sum(packages.values()) for packages in minutes["music"].values()]
    assert max(held) < 1.5 * min(held)


def test_a_package_is_one_version_with_one_digest(rows):
    assert len({row.package for row in rows}) == len({(row.package, row.version, row.package_sha256) for row in rows})


def test_decoded_file_names_do_not_collide(rows):
    names = {row.flac.lower() for row in rows}
    assert len(names) == len(rows)
    assert all(re.fullmatch(r"audio/[\w.+/-]+\.flac", name) for name in names)
    assert max(len(Path(name).name) for name in names) < 128
    spaced, flat = (dataclasses.replace(rows[0], path=path) for path in ("usr/share/a b.ogg", "usr/share/a_b.ogg"))
    assert spaced.flac != flat.flac


def test_no_source_dominates_training(rows):
    for label, share in (("speech", 0.35), ("music", 0.25), ("noise", 0.35)):
        minutes = {}
        for row in rows:
            if (row.split, row.label) == ("train", label):
                minutes[row.package] = minutes.get(row.package, 0) + float(row.duration_s)
        assert max(minutes.values()) < share * sum(minutes.values()), label


def test_wanted_rows_do_not_depend_on_order(rows):
    kept = corpus.wanted(rows, ["train", "val"])
    assert {row.split for row in kept} == {"train", "val"}
    assert corpus.wanted(rows[::-1], ["train", "val"]) == kept


def test_listing_adds_up_recordings_and_minutes():
    rows = [
        corpus.Row("val", label, "a", "1", "", f"{number}.ogg", "", "", "", "CC0-1.0", "90.0")
        for number, label in enumerate(("speech", "music", "speech"))
    ]
    assert corpus.listing(rows, ["split", "label"]).splitlines() == [
        "| split | label | recordings | minutes |",
        "| --- | --- | ---: | ---: |",
        "| val | music | 1 | 1.5 |",
        "| val | speech | 2 | 3.0 |",
    ]
    with pytest.raises(MsEdgeError, match="--by path: give split, label"):
        corpus.listing(rows, ["path"])


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


def test_queen_container_returns_entries_by_name(tmp_path):
    members = {"JOE0001.SB": b"first", "C103K043.SB": b"", "TWELVE.NAMES": b"last \0 one"}
    container = queen(tmp_path / "queen.1c", members)
    assert {name: corpus.read_member(container, name) for name in members} == members
    with pytest.raises(AudioError, match=r"JOE0002\.SB") as caught:
        corpus.read_member(container, "JOE0002.SB")
    assert caught.value.code == "not-found"


@pytest.mark.parametrize("name", ["pak0.pk3", "base.wz", "public.zip"])
def test_containers_of_three_engines_are_zip_files(tmp_path, name):
    container = tmp_path / name
    with zipfile.ZipFile(container, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound/a.wav", b"a" * 999)
    assert corpus.read_member(container, "sound/a.wav") == b"a" * 999
    with pytest.raises(AudioError, match=r"sound/b\.wav"):
        corpus.read_member(container, "sound/b.wav")


def test_als_is_unsigned_bytes_after_32_bytes(tmp_path):
    path = tmp_path / "30.ALS"
    samples = tone(rate_hz=11_025)
    # The header is loud; decoded as audio, it would add a click and a delay.
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
def test_headerless_files_are_not_misidentified(tmp_path, name, samples_per_byte):
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
def test_header_decides_format_and_channels_are_averaged(tmp_path, name, form):
    path = tmp_path / name
    left = tone(rate_hz=44_100)
    path.write_bytes(encoded(np.stack([left, np.zeros_like(left)], axis=1), 44_100, form))
    assert_sounds_like(decoded(path), tone(amplitude=0.25), 0.02)


def test_undecodable_file_is_an_audio_error(tmp_path):
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
    """Set up a corpus of two packages; return the recorded calls of downloads."""
    pytest.importorskip("av")

    def row(split, label, package, path, language=""):
        digest = hashlib.sha256(DEB).hexdigest()
        return corpus.Row(split, label, package, "1:2.0", digest, path, "", language, "", "CC0-1.0", "0.5", language)

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
    monkeypatch.setattr(origins, "_download", download)
    monkeypatch.setattr(origins, "unpack_package", unpack)
    return calls


def test_fetch_decodes_to_16_khz_flac(tmp_path, small, capsys):
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
    assert (by_source["train", "speech"].source, by_source["train", "speech"].group) == ("voices", "nl")
    assert by_source["train", "music"].source == "tunes"
    for recording in dataset.recordings:
        path = tmp_path / recording.name
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (RATE, 1, "FLAC", "PCM_16")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == recording.sha256

    speech = by_source["train", "speech"]
    assert_sounds_like(speech.read(RATE), tone(), 2e-3)
    assert len(speech.read(8_000)) == 4_000
    assert by_source["val", None].read(RATE).min() > 0.5  # overshoot at full scale is clipped and does not wrap around


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


def test_interrupted_fetch_resumes_without_leftovers(tmp_path, small, monkeypatch):
    store = corpus.store

    def interrupted(root, tree, row):
        if row.path.endswith("loud.wav"):
            raise KeyboardInterrupt
        return store(root, tree, row)

    monkeypatch.setattr(corpus, "store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        corpus.fetch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "index.tsv", "packages", "skipped.tsv"]
    assert {recording.label for recording in corpus.open_corpus(tmp_path).recordings} == {"music", "speech"}

    small.clear()
    monkeypatch.setattr(corpus, "store", store)
    corpus.fetch(tmp_path)
    assert small == ["unpack voices_1%3a2.0_all.deb"]
    assert len(corpus.open_corpus(tmp_path).recordings) == 3


def test_lost_files_and_index_are_made_again(tmp_path, small):
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
    # Material that no single label describes is decoded, but not in the dataset.
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
def test_effects_named_after_speech_are_not_noise(tmp_path, path, kept):
    name = f"audio/train/noise/pkg/{path}"
    row = ("train", "noise", "pkg", "", "", "x", "CC0-1.0", "0", name, "0" * 64, "1.0")
    other = ("train", "speech", "pkg", "", "", "x", "CC0-1.0", "0", "audio/z.flac", "0" * 64, "1.0")
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(line) for line in (corpus.INDEX, row, other)) + "\n")
    assert [recording.name for recording in corpus.open_corpus(tmp_path).recordings] == [
        *([name] if kept else []),
        "audio/z.flac",
    ]


def dropped():
    """Return the table of dropped and relabelled recordings, without its header."""
    table = Path(corpus.__file__).with_name("open_corpus_dropped.tsv").read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in table.splitlines()[1:]]


def test_corrections_apply_to_training_only(tmp_path):
    package, gone, *_ = next(line for line in dropped() if line[2] == "drop")
    other, fanfare, *_ = next(line for line in dropped() if line[2] == "relabel")
    lines = [
        (split, label, of, "", "", "x", "CC0-1.0", "0", f"audio/{split}/{label}/{of}/{file}", "0" * 64, "1.0")
        for split in ("train", "val")
        for of, file, label in ((package, gone, "music"), (other, fanfare, "noise"))
    ]
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(line) for line in (corpus.INDEX, *lines)) + "\n")
    found = {(each.split, each.source): each.label for each in corpus.open_corpus(tmp_path).recordings}
    assert found == {("train", other): "music", ("val", package): "music", ("val", other): None}


def test_dropped_recordings_are_in_the_manifest(rows):
    files = {(row.package, Path(row.flac).name): row.label for row in rows if row.split == "train"}
    for package, file, action, label, reason in dropped():
        assert (package, file) in files, file
        assert action == ("relabel" if label else "drop"), file
        assert label != files[package, file], file
        assert reason, file


def test_old_index_asks_to_fetch_again(tmp_path, small):
    corpus.fetch(tmp_path)
    lines = [line.split("\t") for line in (tmp_path / "index.tsv").read_text().splitlines()]
    old = [place for place, column in enumerate(corpus.INDEX) if column not in ("group", "fold")]
    (tmp_path / "index.tsv").write_text("".join("\t".join(line[i] for i in old) + "\n" for line in lines))
    with pytest.raises(MsEdgeError, match=r"was fetched by an older version; type: ms-train data fetch open-corpus"):
        corpus.open_corpus(tmp_path)
    small.clear()
    corpus.fetch(tmp_path)
    assert small == []  # nothing is decoded again
    assert {recording.group for recording in corpus.open_corpus(tmp_path).recordings} == {"", "nl"}


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
        assert options["env"]["LC_ALL"] == "C"  # the reason is parsed from the output
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 100, "", answer)

    monkeypatch.setattr(origins.subprocess, "run", run)
    with pytest.raises(MsEdgeError) as caught:
        origins.get_package("tunes", "1:2.0", "0" * 64, tmp_path)
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

    monkeypatch.setattr(origins.subprocess, "run", run)
    with pytest.raises(MsEdgeError, match=r"tunes\.deb.*(dpkg-deb|not a Debian archive)") as caught:
        origins.unpack_package(tmp_path / "tunes.deb", tmp_path)
    assert caught.value.code == code


def test_folder_without_corpus_says_what_to_do(tmp_path):
    with pytest.raises(MsEdgeError, match="ms-train data fetch open-corpus --to") as caught:
        corpus.open_corpus(tmp_path / "nowhere")
    assert caught.value.code == "bad-data"


# Git repositories, made here and read from a folder.


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    result = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


CLIPS = {"nl/één clip.wav": tone(0.5, 8_000), "nl/b.wav": tone(0.6, 8_000), "not/wanted.wav": tone(0.7, 8_000)}


@pytest.fixture
def talks(tmp_path):
    """Make a repository `me/talks` of three recordings; return its folder and the commit with them,
    which is not the last.
    """
    folder = tmp_path / "elsewhere" / "me" / "talks.git"
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    for path, samples in CLIPS.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(encoded(samples, 8_000, "WAV"))
    git(folder, "add", ".")
    link = git(folder, "hash-object", "-w", "nl/b.wav")
    git(folder, "update-index", "--add", "--cacheinfo", f"120000,{link},nl/link.wav")
    git(folder, "commit", "--quiet", "-m", "clips")
    commit = git(folder, "rev-parse", "HEAD")
    git(folder, "rm", "--quiet", "-r", "nl")
    git(folder, "commit", "--quiet", "-m", "nothing")
    for allowed in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git(folder, "config", allowed, "true")
    return folder, commit


@pytest.fixture
def cloned(talks, monkeypatch):
    """Set up a corpus of two files of that repository."""
    _, commit = talks
    rows = [
        corpus.Row(
            *("val", "speech", "me/talks", commit, "", path, "", "nl", "", "CC0-1.0", "0.5", "nl"),
            sha256=hashlib.sha256(encoded(samples, 8_000, "WAV")).hexdigest(),
        )
        for path, samples in list(CLIPS.items())[:2]
    ]
    monkeypatch.setattr(corpus, "manifest", lambda: rows)
    monkeypatch.setattr(origins, "HOST", "http://127.0.0.1:9")  # no server listens on this port
    return rows


def contents(git_dir: Path) -> int:
    """Return the number of file contents in a repository."""
    there = git(git_dir, "cat-file", "--batch-check", "--batch-all-objects")
    return sum(line.split()[1] == "blob" for line in there.splitlines())


def test_only_named_files_of_commit_are_fetched(tmp_path, talks, cloned, monkeypatch, capsys):
    folder, _ = talks
    monkeypatch.setattr(origins, "HOST", f"file://{folder.parent.parent}")
    root = tmp_path / "corpus"
    corpus.fetch(root)
    assert "2 recordings" in capsys.readouterr().err
    assert contents(root / "repositories" / "me+talks.git") == 2  # of three
    recordings = corpus.open_corpus(root).recordings
    assert [(recording.source, recording.group) for recording in recordings] == [("me/talks", "nl")] * 2
    for recording, row in zip(recordings, sorted(cloned, key=lambda row: row.flac), strict=True):
        assert recording.name == row.flac
        assert recording.name.startswith("audio/val/speech/me+talks/")
        assert_sounds_like(recording.read(RATE), tone(len(CLIPS[row.path]) / 8_000), 2e-3)

    # The fetched content is sufficient to decode a lost file without the network.
    monkeypatch.setattr(origins, "HOST", "http://127.0.0.1:9")
    (root / recordings[0].name).unlink()
    corpus.fetch(root)
    assert len(corpus.open_corpus(root).recordings) == 2


@pytest.mark.parametrize("place", ["me/talks", "me+talks.git", "me+talks/repo"])
@pytest.mark.parametrize("bare", [True, False])
def test_local_clone_is_used_whatever_its_checkout(tmp_path, talks, cloned, place, bare):
    folder, _ = talks
    clone = tmp_path / "clones" / place
    git(tmp_path, "clone", "--quiet", *(["--bare"] if bare else []), str(folder), str(clone))
    corpus.fetch(tmp_path / "corpus", clones=tmp_path / "clones")
    assert len(corpus.open_corpus(tmp_path / "corpus").recordings) == 2
    assert not (tmp_path / "corpus" / "repositories").exists()


def test_unavailable_repository_says_what_to_do(tmp_path, cloned):
    with pytest.raises(MsEdgeError, match=r"me/talks: git cannot fetch commit \w{40} .*--repositories\.") as caught:
        corpus.fetch(tmp_path / "corpus")
    assert caught.value.code == "download-failed"


def test_clone_without_commit_says_what_to_do(tmp_path, talks, cloned):
    folder, commit = talks
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{folder}", "clones/me/talks")
    with pytest.raises(MsEdgeError, match=rf"me/talks: the clone lacks commit {commit}; type: git .* fetch ") as caught:
        corpus.fetch(tmp_path / "corpus", clones=tmp_path / "clones")
    assert caught.value.code == "no-commit"


def test_incomplete_clone_is_not_completed_by_file(tmp_path, talks, cloned):
    folder, _ = talks
    git(tmp_path, "clone", "--quiet", "--bare", "--filter=blob:none", f"file://{folder}", "clones/me/talks")
    with pytest.raises(MsEdgeError, match=r"me/talks: the clone .* lacks the content of 2 files") as caught:
        corpus.fetch(tmp_path / "corpus", clones=tmp_path / "clones")
    assert caught.value.code == "not-found"
    assert contents(tmp_path / "clones" / "me" / "talks") == 0


def test_file_missing_from_commit_is_named(tmp_path, talks, cloned):
    folder, commit = talks
    tree = origins.RepositoryTree(tmp_path / "tree", "me/talks", commit, tmp_path, folder.parent.parent)
    assert tree.paths == set(CLIPS)  # and not the symbolic link
    with pytest.raises(MsEdgeError, match=rf"me/talks: 'nl/c.wav' is not in commit {commit}"):
        tree.unpack(["nl/c.wav"])


def test_a_file_with_another_digest_is_never_decoded(tmp_path, talks, cloned, monkeypatch):
    folder, _ = talks
    rows = [dataclasses.replace(row, sha256="0" * 64) for row in cloned]
    monkeypatch.setattr(corpus, "manifest", lambda: rows)
    with pytest.raises(MsEdgeError, match=r"me/talks: nl/.* has another SHA-256 than the manifest says") as caught:
        corpus.fetch(tmp_path / "corpus", clones=folder.parent.parent)
    assert caught.value.code == "bad-digest"
    assert not list((tmp_path / "corpus").rglob("*.flac"))


def test_without_git_the_repository_is_named(tmp_path, cloned, monkeypatch):
    def run(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(origins.subprocess, "run", run)
    with pytest.raises(MsEdgeError, match="me/talks: git, which reads the repository, is not installed"):
        corpus.fetch(tmp_path / "corpus")


def test_stems_are_added_within_full_scale(tmp_path):
    stems = {"a.wav": tone(0.5), "b.wav": tone(1.0, amplitude=0.4), "c.wav": tone(0.25, hertz=880.0, amplitude=0.4)}
    for name, samples in stems.items():
        (tmp_path / name).write_bytes(encoded(samples, RATE, "WAV", "FLOAT"))
    row = corpus.Row("val", "music", "me/song", "0" * 40, "", corpus.SUM.join(stems), "", "", "", "CC0-1.0", "1")
    assert row.files == list(stems)
    line = corpus.store(tmp_path / "corpus", tmp_path, row)
    assert not isinstance(line, AudioError)
    expected = np.zeros(RATE, np.float32)
    for samples in stems.values():
        expected[: len(samples)] += samples
    assert np.abs(expected).max() > 1
    found, _ = soundfile.read(tmp_path / "corpus" / row.flac, dtype="float32")
    np.testing.assert_allclose(found, expected / np.abs(expected).max(), atol=1e-4)
    whole = b"".join((tmp_path / name).read_bytes() for name in stems)
    assert corpus.digest_of([tmp_path / name for name in stems]) == hashlib.sha256(whole).hexdigest()


def test_row_moved_to_another_split_leaves_nothing(tmp_path, talks, cloned, monkeypatch):
    folder, _ = talks
    corpus.fetch(tmp_path / "corpus", clones=folder.parent.parent)
    rows = [dataclasses.replace(cloned[0], split="train", licence="CC-BY-4.0"), cloned[1]]
    monkeypatch.setattr(corpus, "manifest", lambda: rows)
    corpus.fetch(tmp_path / "corpus", clones=folder.parent.parent)
    assert [recording.split for recording in corpus.open_corpus(tmp_path / "corpus").recordings] == ["train", "val"]


# The table of sources.


def source(files, label="speech", split="train", **cells):
    empty = dict.fromkeys((field.name for field in dataclasses.fields(corpus_sources.Source)), "")
    given = {"package": "me/talks", "version": "c" * 40, "files": files, "label": label, "split": split}
    return corpus_sources.Source(**{**empty, "licence": "CC0-1.0", **given, **cells})


def listed(lines, paths, tables=None, copyright=""):
    return corpus_sources.candidates(lines, paths, lambda path: (tables or {}).get(path, {}), copyright)


def test_sources_and_rows_match(rows):
    lines = corpus_sources.sources()
    assert {line.package for line in lines} <= {row.package for row in rows}
    new = {(row.package, row.version, row.package_sha256) for row in rows if row.sha256}
    assert {(line.package, line.version, line.package_sha256) for line in lines} == new


def test_every_row_is_made_by_its_line(rows):
    lines, found = {}, {}
    for line in corpus_sources.sources():
        lines.setdefault(line.package, []).append(line)
    for row in rows:
        if row.sha256:
            found.setdefault(row.package, []).append(row)
    for package, those in found.items():
        paths = {f"{row.container}!/{row.path}" if row.container else file for row in those for file in row.files}
        made = {
            row.path: row for of in corpus_sources.candidates(lines[package], paths, lambda _: {}, "") for row in of
        }
        for row in those:
            line = made[row.path]
            assert (line.split, line.label, line.licence_stated) == (row.split, row.label, row.licence_stated), row
            assert line.licence in ("", row.licence), row  # empty if a Debian copyright file states it


def test_path_gives_group_language_and_speaker():
    line = source(r"(?P<lang>\w+)/(?P<who>\w+)_\d\.wav", group="{lang}", language="{lang}", speaker="reader {who}")
    (rows,) = listed([line], ["nl/jan_1.wav", "nl/readme.txt", "fr/luc_2.wav"])
    assert [(row.path, row.group, row.language, row.speaker_or_composer) for row in rows] == [
        ("fr/luc_2.wav", "fr", "fr", "reader luc"),
        ("nl/jan_1.wav", "nl", "nl", "reader jan"),
    ]
    assert {(row.package, row.version, row.licence, row.split) for row in rows} == {
        ("me/talks", "c" * 40, "CC0-1.0", "train")
    }


def test_first_matching_line_decides():
    lines = [source("a.*", split="val"), source("b.*", label=""), source(".*")]
    val, none, train = listed(lines, ["a1", "b1", "c1"])
    assert ([row.path for row in val], none, [row.path for row in train]) == (["a1"], [], ["c1"])


def test_validation_speakers_never_train():
    table = {
        "1.mp3": {"client_id": "f00d" * 16},
        "2.mp3": {"client_id": "beef" * 16},
        "3.mp3": {"client_id": "f00d" * 16},
    }
    lines = [
        source(r"(?P<lang>el)/.*\.mp3", split="val", speaker="{client_id}", table="{lang}/validated.tsv"),
        source(r"(?P<lang>\w+)/.*\.mp3", speaker="{client_id}", table="{lang}/validated.tsv"),
    ]
    paths = ["el/1.mp3", "sv/2.mp3", "sv/3.mp3"]
    val, train = listed(lines, paths, {"el/validated.tsv": table, "sv/validated.tsv": table})
    assert [(row.path, row.speaker_or_composer) for row in val + train] == [("el/1.mp3", "1"), ("sv/2.mp3", "2")]


def test_stems_become_one_recording():
    lines = [
        source(r"\w+/vocals\.wav", label="mixed", split="hard"),
        source(r"(?P<sum>(?P<song>\w+))/.*\.wav", label="music", group="{song}"),
    ]
    hard, music = listed(
        lines, ["x/vocals.wav", "x/bass.wav", "y/drums.wav", "z/vocals.wav", "z/violin.wav", "z/z.wav"]
    )
    assert [row.path for row in hard] == ["x/vocals.wav", "z/vocals.wav"]
    assert [(row.path, row.group) for row in music] == [
        *(("x/bass.wav//x/vocals.wav", "x"), ("y/drums.wav", "y")),
        ("z/violin.wav//z/vocals.wav//z/z.wav", "z"),
    ]
    # This also holds if the stem that is a separate recording comes first.
    hard, music = listed(lines, ["z/vocals.wav", "z/z.wav"])
    assert ([row.path for row in hard], [row.path for row in music]) == (["z/vocals.wav"], ["z/vocals.wav//z/z.wav"])


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-2+

Files:
 data/music/a*.ogg
 data/music/b.ogg
License: CC-BY-SA-3.0 or GPL-3
 and a comment

Files: ./data/music/ab.ogg
License: CC0-1.0
"""


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("z.ogg", "GPL-2+"),
        ("a.ogg", "CC-BY-SA-3.0 or GPL-3"),
        ("b.ogg", "CC-BY-SA-3.0 or GPL-3"),
        ("ab.ogg", "CC0-1.0"),
    ],
)
def test_last_matching_copyright_paragraph_decides(name, licence):
    path = f"usr/share/games/x/data/music/{name}"
    assert corpus_sources.licence_in_copyright(COPYRIGHT, path) == licence
    ((row,),) = listed([source(".*", licence="{copyright}")], [path], copyright=COPYRIGHT)
    assert row.licence == licence


def test_cap_takes_one_recording_per_speaker_first():
    rows = [
        corpus.Row("train", "speech", "a", "1", "", f"{who}{number}.wav", "", "nl", who, "CC0-1.0", "1")
        for who, count in (("ann", 50), ("bob", 2), ("cem", 1))
        for number in range(count)
    ]
    drawn = [row.speaker_or_composer for row in corpus_sources.in_drawing_order(rows)]
    assert sorted(drawn[:3]) == ["ann", "bob", "cem"]
    assert sorted(drawn[3:5]) == ["ann", "bob"]
    assert corpus_sources.in_drawing_order(rows[::-1]) == corpus_sources.in_drawing_order(rows)


def test_new_packages_get_the_emptiest_fold():
    def row(package, minutes, fold="", split="train"):
        cells = (split, "music", package, "1", "", f"{package}.ogg", "", "", "", "CC0-1.0", str(60 * minutes))
        return corpus.Row(*cells, fold=fold)

    old = [row("a", 10, "0"), row("b", 5, "1"), row("c", 4, "2")]
    found = corpus_sources.with_folds([*old, row("d", 6), row("e", 7), row("v", 99, split="val")])
    assert [(each.package, each.fold) for each in found] == [
        *(("a", "0"), ("b", "1"), ("c", "2")),
        *(("d", "2"), ("e", "3"), ("v", "")),
    ]


def test_expansion_gives_rows_with_digests_and_lengths(tmp_path, talks, monkeypatch, capsys):
    folder, commit = talks
    lines = [source(r"(?P<lang>nl|not)/.*\.wav", version=commit, group="{lang}", cap_min="0.018")]
    monkeypatch.setattr(corpus_sources, "sources", lambda: lines)
    monkeypatch.setattr(corpus_sources, "BATCH", 1)
    root, clones = tmp_path / "corpus", folder.parent.parent
    found = corpus_sources.expand("me/talks", root, clones)
    assert len(found) == 2  # more than a second
    for row in found:
        assert row.sha256 == hashlib.sha256(encoded(CLIPS[row.path], 8_000, "WAV")).hexdigest()
        assert float(row.duration_s) == len(CLIPS[row.path]) / 8_000
    # A fetch of the same rows finds them decoded.
    monkeypatch.setattr(corpus, "manifest", lambda: found)
    corpus.fetch(root, clones=clones)
    assert "nothing to do: 2 recordings" in capsys.readouterr().err

    corpus_sources.write_manifest(corpus_sources.with_folds(found), tmp_path / "table.xz")
    first = (tmp_path / "table.xz").read_bytes()
    corpus_sources.write_manifest(corpus_sources.with_folds(found[::-1]), tmp_path / "table.xz")
    assert (tmp_path / "table.xz").read_bytes() == first


def test_files_in_a_zip_file_are_listed_with_their_digests(tmp_path, monkeypatch):
    sound = encoded(tone(), RATE, "WAV")

    def unpack(deb, folder):
        (folder / "usr").mkdir()
        with zipfile.ZipFile(folder / "usr" / "public.zip", "w") as archive:
            archive.writestr("audio/water/river!.wav", sound)
            archive.writestr("audio/voice/yes.wav", sound)
        (folder / "usr" / "named.zip").write_bytes(b"no archive at all")  # is a file like any other

    lines = [source(r"usr/public\.zip!/audio/(?P<kind>water)/.*", "noise", package="game", version="1", group="{kind}")]
    monkeypatch.setattr(corpus_sources, "sources", lambda: lines)
    monkeypatch.setattr(origins, "get_package", lambda *_: tmp_path / "game.deb")
    monkeypatch.setattr(origins, "unpack_package", unpack)
    (row,) = corpus_sources.expand("game", tmp_path / "corpus")
    assert (row.container, row.path, row.group) == ("usr/public.zip", "audio/water/river!.wav", "water")
    assert row.sha256 == hashlib.sha256(sound).hexdigest()
    assert_sounds_like(decoded(tmp_path / "corpus" / row.flac), tone(), 2e-3)


def test_expansion_leaves_out_copies_and_short_files(tmp_path, talks, monkeypatch, capsys):
    folder, _ = talks
    git(folder, "checkout", "--quiet", "HEAD~1")
    (folder / "nl" / "copy.wav").write_bytes((folder / "nl" / "b.wav").read_bytes())
    (folder / "nl" / "click.wav").write_bytes(encoded(tone(0.2), RATE, "WAV"))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "more")
    lines = [source(r"nl/.*\.wav", version=git(folder, "rev-parse", "HEAD"))]
    monkeypatch.setattr(corpus_sources, "sources", lambda: lines)
    found = corpus_sources.expand("me/talks", tmp_path / "corpus", folder.parent.parent)
    assert len(found) == 2
    err = capsys.readouterr().err
    assert "nl/click.wav: is only 0.200 s long" in err
    assert "is the same as nl/" in err
    assert sorted(path.name for path in (tmp_path / "corpus").rglob("*.flac")) == sorted(
        Path(row.flac).name for row in found
    )
    with pytest.raises(MsEdgeError, match=r"me/other: open_corpus_sources\.tsv has no such"):
        corpus_sources.expand("me/other", tmp_path / "corpus")
