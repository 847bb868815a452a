"""`ms-edge score` and the package behind it: references, measures and their sums."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pytest

from ms_edge.cli.main import main
from ms_edge.errors import UsageError
from ms_edge.results import Classification, Failure, Segment
from ms_edge.scoring.measures import Counts, boundaries, counted, frames_of, matched, matched_segments, segments_of
from ms_edge.scoring.references import meaning, read_references, stem_of
from ms_edge.scoring.score import Scorer, score

PARTS = [(0.0, 2.5, "speech"), (2.5, 4.0, "speech+music"), (6.0, 7.25, "music")]


def result(path, parts, seconds):
    segments = tuple(Segment(start, end, label, 0.9, {}) for start, end, label in parts)
    return Classification(
        path=path,
        label="speech",
        probability=0.9,
        scores={},
        seconds={},
        duration_s=seconds,
        sample_rate_hz=16000,
        channels=1,
        segments=segments,
        warnings=(),
        file=None,
        recorded_at=None,
        settings={},
        model="",
        provider="",
        decoder=None,
        container=None,
        codec=None,
        channel=None,
    )


def written(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding)
    return str(path)


def test_speech_with_music_counts_for_both_classes():
    frames = frames_of(PARTS, 8.0)
    assert frames.shape == (800, 2)
    assert frames.sum(axis=0).tolist() == [400, 275]
    assert frames[250:400].all()


def test_the_middle_of_a_frame_decides():
    frames = frames_of([(0.004, 0.016, "speech"), (0.026, 0.034, "speech")], 0.05)
    assert frames[:, 0].tolist() == [True, True, False, False, False]


def test_frames_end_with_the_recording():
    assert frames_of([(0.0, 1034.3, "music")], 900.0).sum() == 90_000


def test_frame_measures_are_those_of_hand_arithmetic():
    # 10 s; true 2 to 6, found 3 to 8: 3 s right, 2 false, 1 missed, 4 neither.
    true, found = (frames_of([part], 10.0)[:, 0] for part in ((2.0, 6.0, "speech"), (3.0, 8.0, "speech")))
    frames = counted(true, found).measures()["frames"]
    assert frames == {"precision": 0.6, "recall": 0.75, "f1": round(6 / 9, 6), "accuracy": 0.7}


def test_collar_leaves_out_both_sides_of_boundaries():
    true, found = (frames_of([part], 10.0)[:, 0] for part in ((2.0, 6.0, "speech"), (3.0, 8.0, "speech")))
    counts = counted(true, found, collar_s=0.5)  # without 1.5 to 2.5 and 5.5 to 6.5
    assert (counts.right, counts.false, counts.missed, counts.rest) == (250, 150, 50, 350)


def test_nothing_to_measure_has_no_measure():
    nothing = np.zeros(100, bool)
    measures = counted(nothing, nothing).measures()
    assert measures["frames"] == {"precision": None, "recall": None, "f1": None, "accuracy": 1.0}
    assert measures["boundaries"]["median_s"] is None
    assert counted(nothing, ~nothing).measures()["frames"]["f1"] == 0.0


@pytest.mark.parametrize(
    ("found", "starts", "wholes"),
    [
        ([(1.4, 4.0), (6.5, 9.0)], 2, 1),  # the second ends a second late
        ([(1.0, 2.0), (2.3, 4.0)], 1, 0),  # split
        ([(1.51, 4.0)], 0, 0),  # just too late
        ([(0.9, 1.05), (1.2, 4.4)], 1, 1),  # the closest start is not the only possible one
    ],
)
def test_segments_match_within_the_tolerance(found, starts, wholes):
    true = frames_of([(1.0, 4.0, "music"), (6.0, 8.0, "music")], 20.0)[:, 1]
    said = frames_of([(*part, "music") for part in found], 20.0)[:, 1]
    counts = counted(true, said, tolerance_s=0.5)
    assert (counts.starts, counts.wholes) == (starts, wholes)
    assert (counts.true_segments, counts.found_segments) == (2, len(found))


def test_pairs_of_segments_are_the_most_possible():
    """Compare with the search for augmenting paths, which MIREX's sed_eval uses."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        true, found = (
            segments_of(np.repeat(generator.random(30) < 0.5, generator.integers(1, 9, 30))) for _ in range(2)
        )
        for ends in (False, True):
            assert matched_segments(true, found, 0.05, ends) == most_pairs(true.tolist(), found.tolist(), 5, ends)


def most_pairs(true, found, limit, ends):
    partner = {}

    def placed(row, tried):
        for column, (start, end) in enumerate(found):
            near = abs(true[row][0] - start) <= limit and (not ends or abs(true[row][1] - end) <= limit)
            if near and column not in tried:
                tried.add(column)
                if column not in partner or placed(partner[column], tried):
                    partner[column] = row
                    return True
        return False

    return sum(placed(row, set()) for row in range(len(true)))


def test_boundaries_match_the_closest_within_two_seconds():
    distances, missed, false = matched(np.array([10.0, 20.0]), np.array([9.5, 10.2, 22.0, 50.0]))
    assert distances.tolist() == pytest.approx([0.2, 2.0])
    assert (missed, false) == (0, 2)
    assert [len(matched(np.array([10.0]), np.array([time]))[0]) for time in (7.98, 8.0, 12.0, 12.02)] == [0, 1, 1, 0]
    assert boundaries(frames_of(PARTS, 8.0)).tolist() == pytest.approx([2.5, 4.0, 6.0, 7.25])


def test_an_apostrophe_before_a_path_is_dropped(tmp_path):
    """CSV of ms-edge has it before what a spreadsheet would run."""
    text = "path,start_s,end_s,label\n'=1.wav,0,1,speech\n"
    assert read_references(written(tmp_path / "a.csv", text)) == {"=1": [(0.0, 1.0, "speech")]}


def test_counts_add_up_over_recordings():
    one = counted(*(frames_of([part], 10.0)[:, 0] for part in ((2.0, 6.0, "speech"), (3.0, 8.0, "speech"))))
    total = sum((one, one), Counts())
    assert total.right == 2 * one.right
    assert total.distances_s.tolist() == pytest.approx([1.0, 2.0] * 2)
    assert total.measures()["boundaries"]["mean_s"] == 1.5
    assert total.measures()["frames"] == one.measures()["frames"]


AUDACITY = "0\t2.5\tspeech\n\\\t100.0\t900.0\n2.5\t4\tspeech+music\n6.0\t7.25\tmusic\n"
SHORT = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n8\n<exists>\n3\n'
    '"IntervalTier"\n"voice [1]"\n0\n8\n2\n0\n4\n"speech"\n4\n8\n""\n'
    '"TextTier"\n"clicks"\n0\n8\n1\n3.5\n"x"\n'
    '"IntervalTier"\n"music"\n0\n8\n4\n0\n2.5\n""\n2.5\n4\n"music"\n4\n6\n"say ""no"""\n6\n7.25\n"music"\n'
)
FORMS = {
    "show.txt": AUDACITY,
    "show.labels.txt": AUDACITY,
    "show.wav.txt": AUDACITY,
    "show.TextGrid": SHORT,
    "all.rttm": ";; made by hand\nSPKR-INFO show 1 <NA> <NA> <NA> unknown a <NA> <NA>\n"
    "SPEAKER show 1 0 4.0 <NA> <NA> speech <NA> <NA>\n"
    "SPEAKER show 1 2.5 1.5 <NA> <NA> music 0.9 <NA>\nSPEAKER a/show.wav 1 6 1.25 <NA> <NA> music <NA> <NA>\n",
    "show.csv": "start,stop,label\n0,2.5,speech\n2.5,4,speech+music\n\n6,7.25,music\n",
    "table.tsv": "\ufeffpath\tstart_s\tend_s\tlabel\nx/show.mp3\t0\t4\tmale\nshow\t2.5\t4\tbg_music\nshow\t6\t7.25\tm\n",
    "done.csv": "path,start_s,end_s,label,label_before\nshow.wav,0,2.5,speech,music\nshow.wav,2.5,4,speech+music,music\n"
    "path,start_s,end_s,label,label_before\n'=/show.wav,6.000,7.250,music,music\n",
    "show.tsv": "0\t4\ts\n2.5\t4\tm\n6\t7.25\tm\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_formats_hold_the_same_reference(name, tmp_path):
    found = read_references(written(tmp_path / name, FORMS[name]))
    assert list(found) == ["show"]
    parts = [(start, end, meaning(label, {})[0]) for start, end, label in found["show"]]
    assert np.array_equal(frames_of(parts, 8.0), frames_of(PARTS, 8.0))


@pytest.mark.parametrize("kind", ["audacity", "textgrid", "rttm", "csv", "tsv"])
@pytest.mark.parametrize("name", ["böse 1", *(["\udcff", "a\nb", "a\x0bb"] if sys.platform == "linux" else [])])
def test_outputs_of_classify_are_references(kind, name, tmp_path):
    """A reference that ms-edge wrote itself gives perfect scores, for names that RTTM must encode too."""
    from ms_edge.output.formats import FORMATS

    writer = FORMATS[kind](("speech", "music"), timeline=True)
    found = result(f"my shows/{name}.wav", [*PARTS[:2], (4.0, 6.0, "other"), PARTS[2]], 7.25)
    path = tmp_path / f"{name}.{writer.suffix}"
    path.write_text(writer.begin() + writer.records((found,)), "utf-8", "surrogateescape", newline="")
    scores = score(read_references(str(path)), [found], Scorer())
    assert scores.total()["total"].measures()["frames"]["f1"] == 1.0
    assert scores.left_out == ()


def test_utf16_textgrid_of_praat_is_read(tmp_path):
    path = written(tmp_path / "show.TextGrid", SHORT.replace("say", "sagt Müller:"), "utf-16")
    assert (4.0, 6.0, 'sagt Müller: "no"') in read_references(path)["show"]


def test_directory_holds_a_reference_per_recording(tmp_path):
    written(tmp_path / "a.txt", AUDACITY)
    written(tmp_path / "more" / "b.TextGrid", SHORT)
    written(tmp_path / "cover.png", "")
    assert list(read_references(str(tmp_path))) == ["a", "b"]


def test_directories_are_read_in_order_of_names(tmp_path):
    """As the file system lists them, they are in any order."""
    names = [f"{folder}{file}" for folder in "abcdefghij" for file in "xyz"]
    for name in random.Random(0).sample(names, len(names)):
        written(tmp_path / name[0] / f"{name}.txt", "")
    assert list(read_references(str(tmp_path))) == names


def test_empty_label_track_is_a_reference(tmp_path):
    assert read_references(written(tmp_path / "quiet.txt", "")) == {"quiet": []}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "0 2.5 speech\n", "line 1 has no start, end and label"),
        ("a.txt", "0\t1\tspeech\n3\t2\tmusic\n", "a segment from 3 to 2 s"),
        ("a.txt", "0\tnan\tspeech\n", "a segment from 0 to nan s"),
        ("a.txt", "0\t1\tspeech\n".encode("utf-16-le").decode("latin-1") + "\xff", "no start, end and label"),
        ("a.csv", "path,start_s\nx,0\n", "no column end_s and no column label"),
        ("a.rttm", "SPEAKER show 1 0\n", "line 1 has 4 fields, and needs at least 8"),
        ("a.TextGrid", SHORT[:150], "it ends too early"),
        ("a.TextGrid", "hello", "it ends too early"),
        ("a.TextGrid", '"ooTextFile" "Sound"', "it does not begin as a TextGrid"),
        ("a.docx", "", "no format has this suffix"),
    ],
)
def test_broken_reference_is_one_sentence(name, text, said, tmp_path):
    with pytest.raises(UsageError, match=said) as raised:
        read_references(written(tmp_path / name, text))
    assert name in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.txt", "no such file"),
        ("gone", "does not exist"),
        ("empty", "holds no reference"),
        ("twice", "both for show"),
    ],
)
def test_missing_references_are_one_sentence(name, said, tmp_path):
    (tmp_path / "empty").mkdir()
    written(tmp_path / "twice" / "show.txt", "")
    written(tmp_path / "twice" / "old" / "show.csv", "")
    with pytest.raises(UsageError, match=said):
        read_references(str(tmp_path / name))


@pytest.mark.parametrize(
    ("label", "classes", "known"),
    [
        ("Speech", "speech", True),
        ("fg_music", "music", True),
        ("Background Music + male", "speech+music", True),
        ("SPEECH_WITH_MUSIC", "speech+music", True),
        ("silence", "", True),
        ("jingle", "", False),
        ("jingle+speech", "speech", False),
        ("SPK 7", "speech", True),
    ],
)
def test_labels_mean_classes(label, classes, known):
    assert meaning(label, {"SPK 7": "speech"}) == (classes, known)


@pytest.mark.parametrize(
    ("path", "stem"),
    [("a/b.c.WAV", "b.c"), ("b.c", "b.c"), ("-", "-"), ("x.mp3.flac", "x.mp3"), ("-FaX.m4a", "-FaX"), ("x.pcm", "x")],
)
def test_stems_lose_suffixes_of_audio_alone(path, stem):
    assert stem_of(path) == stem


def test_recordings_without_partner_are_named():
    references = {"a": PARTS, "gone": PARTS}
    results = [result("a.wav", PARTS, 8.0), result("b.wav", PARTS, 8.0), Failure("x/c.wav", "not-audio", "no")]
    found = score({**references, "c": PARTS}, results, Scorer())
    assert len(found.recordings) == 1
    assert [sentence.partition(":")[0] for sentence in found.left_out] == ["b.wav", "x/c.wav", "gone"]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([result("x/a.wav", PARTS, 8.0), result("a.flac", PARTS, 8.0)], "x/a.wav and a.flac are both records of a"),
        ([result("a.wav", [], 8.0)], "classify with --timeline"),
        ([result("a.wav", PARTS, 1e300)], "a recording of 1e.300 seconds cannot be scored"),
        ([result("b.wav", PARTS, 8.0)], "no recording can be scored: b.wav: no reference"),
        ([], "there is no record"),
    ],
)
def test_records_that_cannot_be_scored_are_refused(results, said):
    with pytest.raises(UsageError, match=said):
        score({"a": PARTS} if results else {}, results, Scorer())


def test_what_of_a_reference_is_not_scored_is_said():
    """A reference of another recording, or in milliseconds, or of points, must not look perfect."""
    references = {"a": [(0.0, 600.0, "music"), (3.0, 3.0, "speech"), (-2.0, -1.0, "speech")]}
    found = score(references, [result("a.wav", [(0.0, 6.0, "music")], 6.0)], Scorer())
    empty, beyond = found.notes
    assert beyond.startswith("a.wav: its reference goes on to 600.0 s, and the recording has 6.0 s")
    assert empty == "a.wav: 2 segments of its reference are empty or before 0 s, and not scored."
    assert not score({"a": [(0.0, 6.9, "music")]}, [result("a.wav", [(0.0, 6.0, "music")], 6.0)], Scorer()).notes


TWO_OF_ONE_NAME = pytest.mark.parametrize(
    ("name", "text"),
    [
        ("two.csv", "path,start_s,end_s,label\na/x.wav,0,3,speech\nb/x.wav,3,6,music\n"),
        ("two.rttm", "SPEAKER a/x 1 0 3 <NA> <NA> speech <NA> <NA>\nSPEAKER b/x 1 3 3 <NA> <NA> music <NA> <NA>\n"),
    ],
)


@TWO_OF_ONE_NAME
def test_one_path_can_be_written_in_two_ways(name, text, tmp_path):
    assert list(read_references(written(tmp_path / name, text.replace("b/x", ".//a/x")))) == ["x"]


@TWO_OF_ONE_NAME
def test_two_recordings_of_one_name_in_a_file_are_an_error(name, text, tmp_path):
    with pytest.raises(UsageError, match=r"a/x.* and b/x.* are both named x"):
        read_references(written(tmp_path / name, text))


@pytest.mark.parametrize("options", [{"collar_s": -1.0}, {"tolerance_s": float("nan")}, {"labels": {"jingle": "jazz"}}])
def test_invalid_settings_are_refused(options):
    with pytest.raises(UsageError):
        Scorer(**options)


@pytest.fixture
def scored(tmp_path, capsys, monkeypatch):
    """A function that scores one record, of the parts, against references/, and returns what is printed."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "references" / "show.txt", AUDACITY + "7.3\t8\tjingle\n")
    record = result("show.wav", [(0.0, 4.1, "speech"), (4.1, 8.0, "music")], 8.0).record(timeline=True)
    written(tmp_path / "records.jsonl", json.dumps(record) + "\n")

    def run(*options):
        code = main(["score", "--reference", "references", "records.jsonl", *options])
        return code, *capsys.readouterr()

    return run


def test_table_shows_classes_and_total(scored):
    code, printed, messages = scored("--each")
    assert code == 0
    lines = {line[:46].strip(): line[46:].split() for line in printed.splitlines()}
    assert lines["frames of 10 ms: F1, %"] == ["98.8", "37.6", "71.2"]
    assert lines["segments, start within 0.5 s: F1, %"] == ["100.0", "0.0", "40.0"]
    assert "1 recording, 8.0 seconds" in printed
    assert printed.endswith("98.8   37.6  show.wav\n")
    assert "count as neither: 'jingle' (1)" in messages


def test_label_option_changes_a_meaning(scored):
    code, printed, messages = scored("--format", "json", "--label", "jingle=music")
    found = json.loads(printed)
    assert (code, messages) == (0, "")
    assert found["schema"] == "ms-edge-score/1"
    assert found["music"]["seconds"] == 3.45
    assert found["recordings"][0]["path"] == "show.wav"
    assert found["speech"]["boundaries"] == {
        "true": 1,
        "found": 1,
        "median_s": 0.1,
        "mean_s": 0.1,
        "missed": 0.0,
        "false": 0.0,
    }


def test_reference_without_record_ends_with_status_one(scored, tmp_path):
    written(tmp_path / "references" / "other.txt", AUDACITY)
    code, printed, messages = scored()
    assert code == 1
    assert "1 recording, 8.0" in printed
    assert "other: no record is of this reference" in messages


@pytest.mark.parametrize("options", [("--label", "jingle"), ("--label", "=music"), ("--collar", "-1")])
def test_invalid_options_end_with_status_two(options, scored):
    code, printed, messages = scored(*options)
    assert (code, printed, messages.count("\n")) == (2, "", 1)
