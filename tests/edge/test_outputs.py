"""Which files an output may replace, who owns a part file, which earlier records are valid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import hostile
import openpyxl
import pytest
from resuming import classified

from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.output import journal as resume
from ms_edge.output.destination import FileOutput, is_answer
from ms_edge.output.formats import FORMATS
from ms_edge.output.writers import is_as_written, json_line
from ms_edge.results import Failure

COMMAND = [sys.executable, "-m", "ms_edge.cli", "classify"]
posix = pytest.mark.skipif(os.name != "posix", reason="Windows lacks links, FIFOs and signals")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded(*names: str) -> None:
    """Make recordings."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(hostile.plain())


def contents() -> dict[str, bytes]:
    """Return the content of every file below the working directory, and the target of every link."""
    return {
        str(path): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        for path in Path().rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


# No input is replaced


def tree_inputs(how: str) -> list[str]:
    """Return arguments that make `rec` and then `rec.txt` inputs."""
    if how == "names":
        return ["rec", "rec.txt"]
    if how == "directory":
        return [".", "--glob", "rec*"]
    Path("list").write_text("rec\nrec.txt\n")
    return ["--files-from", "list"]


@pytest.mark.parametrize("how", ["names", "directory", "list"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_no_result_in_a_tree_replaces_a_recording(folder, capsys, how, jobs):
    recorded("rec", "rec.txt")
    given = tree_inputs(how)
    assert cli.main(["classify", *given, "-o", "./", "-j", jobs]) == 1
    (complaint,) = capsys.readouterr().err.splitlines()
    assert "rec: its result cannot be written in ./ (./" in complaint
    assert "rec.txt exists and is an input or not a result of ms-edge" in complaint
    assert {path.name for path in folder.iterdir()} == {"rec", "rec.txt", "rec.txt.txt"} | ({"list"} & set(given))
    assert Path("rec.txt").read_bytes() == hostile.plain()


@pytest.mark.parametrize("content", [hostile.PCM, bytes(64_000), b"\xff" * 64_000, hostile.encoded(form="FLAC")])
def test_no_result_in_a_tree_replaces_raw_samples(folder, content):
    Path("rec").write_bytes(content)
    Path("rec.txt").write_bytes(content)
    Path("list").write_text("rec\nrec.txt\n")
    assert cli.main(["classify", "-q", "--files-from", "list", "--raw", "16000:1:s16le", "-o", "./"]) == 1
    assert Path("rec.txt").read_bytes() == content


@posix
def test_no_result_replaces_the_target_of_a_link(folder):
    recorded("a", "b", "deep/elsewhere")
    Path("a.txt").symlink_to("deep/elsewhere")
    os.link("b", "b.txt")
    Path("list").write_text("a\nb\na.txt\nb.txt\n")
    before = contents()
    assert cli.main(["classify", "-q", "--files-from", "list", "-o", "./"]) == 1
    after = contents()
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"a.txt.txt", "b.txt.txt"}


def test_inputs_that_look_like_results_are_kept(folder, capsys):
    """These are known at the start: the paths, the list and the model."""
    recorded("a", "b", "c")
    answer = f"{'LABEL':<13}{'PROBABILITY':>11}\n"
    Path("a.txt").write_text(answer)
    Path("b.txt").write_text(f"c\n{answer}")
    Path("c.txt").write_text("SPEAKER 1.wav\nb\n")  # a list
    before = contents()
    assert cli.main(["classify", "a", "b", "a.txt", "--files-from", "c.txt", "-o", "./"]) == 1
    after = contents()
    assert {name: after[name] for name in before} == before
    assert cli.main(["classify", "c", "-o", "./"]) == 0  # not an input now, so it counts as a result
    assert Path("c.txt").read_text().startswith(answer.split()[0])


def test_a_failure_removes_no_recording(folder):
    recorded("rec.vtt")
    Path("rec").write_text("broken")
    assert cli.main(["classify", "-q", "rec", "rec.vtt", "-o", "./", "--format", "webvtt"]) == 1
    assert Path("rec.vtt").read_bytes() == hostile.plain()
    assert Path("rec.vtt.vtt").exists()


@posix
def test_a_pipe_in_the_output_is_not_opened(folder):
    recorded("rec")
    Path("out").mkdir()
    os.mkfifo("out/rec.txt")
    run = subprocess.run([*COMMAND, "rec", "-o", "out/"], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "out/rec.txt exists" in run.stderr


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("timeline", [False, True])
def test_results_are_recognised_by_their_beginning(folder, samples, name, timeline):
    writer = FORMATS[name](("speech", "music"), timeline)
    found = Classifier(device="cpu").classify(samples[0])
    for results in ((found,), Failure("a b.wav", "not-found", "a b.wav: no such file.")):
        output = FileOutput("answer", writer)
        output.write(results)
        output.finish()
        if Path("answer").exists():  # a failure has no track
            assert is_answer("answer"), Path("answer").read_bytes()[:80]
            Path("answer").unlink()


def test_no_recording_looks_like_a_result(tmp_path, samples):
    paths = list(samples)
    for number, case in enumerate(hostile.CASES.values()):
        case.make(tmp_path / str(number))
        paths.append(tmp_path / str(number))
    assert [path for path in paths if is_answer(str(path)) and path.stat().st_size] == []
    assert not is_answer(str(tmp_path))
    assert not is_answer(str(tmp_path / "missing"))


@pytest.mark.parametrize("jobs", ["1", "3"])
@pytest.mark.parametrize(
    "how", ["same", "directory", pytest.param("link", marks=posix), pytest.param("hard", marks=posix)]
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_input_named_late_is_not_replaced(folder, capsys, how, jobs, suffix):
    """Also if it is not a recording, or shorter than a second."""
    recorded("a.wav")
    name = f"short.{suffix}"
    Path(name).write_bytes(hostile.plain(hostile.PCM[:400]))
    other = {"same": name, "directory": name, "link": "other", "hard": "other"}[how]
    if how == "link":
        Path("other").symlink_to(name)
    if how == "hard":
        os.link(name, "other")
    Path("list").write_text(f"a.wav\n{other}\n")
    given = [".", "--glob", "[as]*"] if how == "directory" else ["--files-from", "list"]
    before = contents()
    assert cli.main(["classify", *given, "-o", name, "-j", jobs]) == 2
    assert f"{name}: is a recording or an input, and not replaced" in capsys.readouterr().err
    assert {path: content for path, content in contents().items() if not path.endswith(".part")} == before


@pytest.mark.parametrize("name", ["list", "model", "a.jsonl.part", "a.jsonl.resume"])
def test_lists_models_and_parts_are_not_replaced(folder, capsys, name):
    recorded("a.wav")
    Path(name).write_text('{"schema": "ms-edge/1", "path": "a"}\n')
    output = "a.jsonl" if name.startswith("a.") else name
    arguments = {"list": ["--files-from", name], "model": ["a.wav", "--model", name]}.get(name, ["a.wav", name])
    before = contents()
    assert cli.main(["classify", *arguments, "-o", output, "--format", "jsonl"]) == 2
    assert "give another name" in capsys.readouterr().err
    assert contents() == before


@posix
@pytest.mark.parametrize("suffix", ["wav", "ts", "snd", "sf", "raw", "pcm", "vox", "aax"])
def test_no_command_replaces_a_recording(folder, capsys, suffix):
    """Also one of a format that is read only if it is named, or not at all."""
    recorded("a.wav", f"mine.{suffix}")
    Path("records.jsonl").write_text(json_line(Failure("a.wav", "cannot-open", "no"), False))
    Path("page.html").symlink_to(f"mine.{suffix}")
    before = contents()
    for arguments in (
        ["classify", "a.wav", "--format", "jsonl", "-o", f"mine.{suffix}"],
        ["summary", "records.jsonl", "--format", "csv", "-o", f"mine.{suffix}"],
        ["report", "a.wav", "-o", "page.html"],
        ["watch", ".", "-o", f"mine.{suffix}"],
    ):
        assert cli.main(arguments) == 2
        assert "has the suffix of a recording, and no output replaces one" in capsys.readouterr().err
    assert contents() == before


@posix
def test_a_page_replaces_only_pages(folder, capsys):
    """A link with the name of a page may lead to a recording that only a record names."""
    recorded("named")
    assert cli.main(["classify", "-q", "named", "-o", "records.jsonl"]) == 0
    Path("page.html").symlink_to("named")
    before = contents()
    assert cli.main(["report", "records.jsonl", "-o", "page.html"]) == 2
    assert "is not a result of ms-edge and is not replaced" in capsys.readouterr().err
    assert contents() == before


def test_documents_in_a_tree_have_no_documents(folder, capsys):
    """A directory may contain the output directory, with --glob '*'."""
    recorded("d/a.wav", "d/z.wav")
    arguments = ["classify", "-r", "d", "--glob", "*", "-o", "d/out/"]
    cli.main(arguments)
    capsys.readouterr()
    before = contents()
    assert set(before) == {"d/a.wav", "d/z.wav", "d/out/d/a.wav.txt", "d/out/d/z.wav.txt"}
    assert cli.main(arguments) == 1
    assert capsys.readouterr().err.count("is an output of this run or an earlier one") == 2
    assert set(contents()) == set(before)


@posix
def test_results_can_have_the_longest_name(folder):
    """FILE.resume is then longer than a name may be."""
    recorded("a.wav")
    name = "x" * (255 - len(".jsonl.part")) + ".jsonl"
    assert cli.main(["classify", "-q", "a.wav", "-o", name]) == 0
    assert set(contents()) == {"a.wav", name}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_run_does_not_read_its_output(folder, suffix):
    """A directory may contain the output, with --glob '*'."""
    recorded("a.wav", "z.wav")
    output = f"r.{suffix}"
    assert cli.main(["classify", "-q", ".", "--glob", "*", "-o", output]) == 1
    written = Path(output).read_text()
    assert written.count("cannot-open") == 1
    assert written.count(".part") >= 1
    assert set(contents()) == {"a.wav", "z.wav", output}


@pytest.mark.parametrize(("content", "status"), [(hostile.plain(), 2), (b"mine", 2), (b"path,label\n", 0), (b"", 0)])
def test_a_recording_that_appears_meanwhile_is_kept(folder, monkeypatch, capsys, content, status):
    """The results of another run are replaced."""
    recorded("a.wav")
    Path("new").write_bytes(content)
    classify = Classifier.classify

    def while_something_comes(self, *arguments, **options):
        os.replace("new", "r.csv")
        return classify(self, *arguments, **options)

    monkeypatch.setattr(Classifier, "classify", while_something_comes)
    assert cli.main(["classify", "a.wav", "-o", "r.csv"]) == status
    assert (Path("r.csv").read_bytes() == content) is bool(status)
    parts = list(folder.glob("*.part"))
    complaint = capsys.readouterr().err
    if status:
        assert "another program put a file there" in complaint
        assert f"{parts[0]} holds the results so far" in complaint
    assert len(parts) == bool(status)


@posix
def test_the_part_of_another_run_is_kept(folder):
    """Somebody removed our part, and another run began."""
    for discard in (False, True):
        output = FileOutput("r.csv", FORMATS["csv"](("speech",), timeline=False))
        Path(output.part).unlink()
        Path(output.part).write_text("of another run")
        if discard:
            output.discard()
        else:
            with pytest.raises(Exception, match="removed or replaced it"):
                output.finish()
            output.write(Failure("a", "b", "c"))
            assert output.abandon() == ""
        assert contents() == {Path(output.part).name: b"of another run"}
        Path(output.part).unlink()


# A part file belongs to one run


@contextlib.contextmanager
def a_run_that_goes_on(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has written one record to r.jsonl.part and waits for another path."""
    with subprocess.Popen([*COMMAND, "--files-from", "-", "-o", "r.jsonl", *options], stdin=subprocess.PIPE) as process:
        try:
            process.stdin.write(b"a.wav\n")
            process.stdin.flush()
            wait_for_records(process, 1)
            yield process
        finally:
            process.kill()


def wait_for_records(process: subprocess.Popen[bytes], count: int) -> None:
    part = Path("r.jsonl.part")
    while not (part.exists() and part.read_bytes().count(b"\n") >= count):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_a_second_run_into_one_file_is_refused(folder, options):
    recorded("a.wav", "b.wav")
    Path("r.jsonl").write_text("old")
    with a_run_that_goes_on() as process:
        before = contents()
        second = subprocess.run(
            [*COMMAND, "b.wav", "-o", "r.jsonl", *options], capture_output=True, text=True, timeout=60, check=False
        )
        assert (second.returncode, second.stdout) == (2, "")
        assert "r.jsonl.part: another run is writing it" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert contents() == before
        process.communicate(b"b.wav\n")
        assert process.returncode == 0
    assert [json.loads(line)["path"] for line in Path("r.jsonl").read_text().splitlines()] == ["a.wav", "b.wav"]
    assert set(contents()) == {"a.wav", "b.wav", "r.jsonl"}


@posix
@pytest.mark.parametrize("options", [[], ["-j", "2"]])
def test_a_killed_run_releases_its_lock(folder, options):
    """Its workers may end after it."""
    recorded("a.wav", "b.wav")
    with a_run_that_goes_on(*options) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert cli.main(["classify", "a.wav", "b.wav", "-o", "r.jsonl", "--resume"]) == 0
    assert set(contents()) == {"a.wav", "b.wav", "r.jsonl"}


def test_no_two_runs_write_one_file(folder):
    recorded(*(f"in/{number}.wav" for number in range(20)))
    command = [*COMMAND, "in", "-o", "r.jsonl", "-j", "1"]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    for run in runs:
        _, complaint = run.communicate(timeout=120)
        assert (run.returncode, len(complaint.splitlines())) in ((0, 0), (2, 1))
    assert 0 in [run.returncode for run in runs]
    assert [is_as_written(line) for line in Path("r.jsonl").read_bytes().splitlines(keepends=True)] == [True] * 20
    assert not Path("r.jsonl.part").exists()


def test_a_renamed_part_is_not_written(folder, monkeypatch):
    """The run that had locked it has just ended."""
    Path("r.jsonl.part").write_text('{"schema": "ms-edge/1", "path": "a"}\n')
    lock, before = resume.lock, contents()["r.jsonl.part"]

    def lock_late(descriptor):
        if not Path("r.jsonl").exists():
            os.replace("r.jsonl.part", "r.jsonl")
        return lock(descriptor)

    monkeypatch.setattr(resume, "lock", lock_late)
    descriptor = resume.claimed("r.jsonl.part")
    os.write(descriptor, b"new")
    os.close(descriptor)
    assert contents() == {"r.jsonl": before, "r.jsonl.part": b"new"}


def test_a_file_system_without_locks_is_enough(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="only POSIX has fcntl")

    def no_locks(descriptor, how):
        raise OSError(37, "no locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    recorded("a.wav")
    assert cli.main(["classify", "a.wav", "-o", "r.jsonl"]) == 0


# Files that ms-edge did not write are not changed


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


OURS = b'{"schema": "ms-edge/1", "path": "a.wav"}\n'
STRANGERS = {
    "socket": _socket,
    "device": lambda path: Path(path).symlink_to("/dev/full"),
    "dangling link": lambda path: Path(path).symlink_to("elsewhere"),
    "link to records": lambda path: (Path("target").write_bytes(OURS), Path(path).symlink_to("target")),
    "other name of records": lambda path: (Path("target").write_bytes(OURS), os.link("target", path)),
    "directory": os.mkdir,
    "zeros": lambda path: Path(path).write_bytes(bytes(10_000)),
    "recording": lambda path: Path(path).write_bytes(hostile.plain()),
    "records of others": lambda path: Path(path).write_text('{"schema": "others/1"}\n'),
}


@posix
@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", ["r.jsonl.part", "r.jsonl.resume"])
@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_files_that_no_run_left_are_kept(folder, capsys, stranger, name, options):
    recorded("a.wav")
    STRANGERS[stranger](name)
    before = contents()
    assert cli.main(["classify", "a.wav", "-o", "r.jsonl", *options]) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert f"{name}: was not left by an earlier run" in complaint
    assert contents() == before


@posix
@pytest.mark.parametrize("name", ["r.jsonl.part", "r.jsonl.resume"])
def test_a_pipe_named_like_a_part_is_refused(folder, name):
    recorded("a.wav")
    os.mkfifo(name)
    for options in ([], ["--resume"]):
        run = subprocess.run(
            [*COMMAND, "a.wav", "-o", "r.jsonl", *options], capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 2
        assert f"{name}: was not left by an earlier run" in run.stderr
        assert set(contents()) == {"a.wav", name}


@pytest.mark.parametrize("left", [b"", OURS[:5], OURS[:-3], OURS * 3])
@pytest.mark.parametrize("name", ["r.jsonl.part", "r.jsonl.resume"])
def test_files_that_a_run_left_are_used(folder, left, name):
    recorded("a.wav")
    for options in ([], ["--resume"]):
        Path(name).write_bytes(left)
        assert cli.main(["classify", "a.wav", "-o", "r.jsonl", *options]) == 0
        assert set(contents()) == {"a.wav", "r.jsonl"}


@pytest.mark.parametrize("before", [None, OURS])
def test_an_interrupt_before_the_first_record_loses_nothing(folder, monkeypatch, before):
    """The interrupt comes while the earlier records are indexed."""
    recorded("a.wav")
    if before:
        Path("r.jsonl.part").write_bytes(before)

    def interrupted(name):
        raise KeyboardInterrupt

    Path("r.jsonl").write_bytes(OURS)
    monkeypatch.setattr(resume, "EarlierRecords", interrupted)
    assert cli.main(["classify", "a.wav", "-o", "r.jsonl", "--resume"]) == 130
    kept = {"r.jsonl.resume": before} if before else {}
    assert contents() == {"a.wav": hostile.plain(), "r.jsonl": OURS, **kept}


# Valid records


@pytest.fixture
def earlier(folder) -> list[bytes]:
    """The lines in r.jsonl of a finished run over four recordings."""
    recorded("a.wav", "b.wav", "c.wav", "d.wav")
    assert resumed() == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert resumed() == []
    return Path("r.jsonl").read_bytes().splitlines(keepends=True)


def resumed(*options: str) -> list[str]:
    """Run with --resume. Return the recordings that were classified."""
    status, paths = classified("a.wav", "b.wav", "c.wav", "d.wav", "-o", "r.jsonl", "--resume", *options)
    assert status == 0
    return paths


def without_checksum(line: bytes) -> bytes:
    return line.rpartition(b', "checksum"')[0] + b"}\n"


CHANGES = {
    "label": lambda line: line.replace(b'"label": "', b'"label": "not ', 1),
    "a digit": lambda line: line.replace(b'"probability": 0.', b'"probability": 0.0', 1),
    "a field less": lambda line: line.replace(b'"channels": 1, ', b""),
    "a field more": lambda line: line.replace(b'"channels": 1, ', b'"channels": 1, "note": "mine", '),
    "another order": lambda line: line.replace(
        b'"sample_rate_hz": 16000, "channels": 1', b'"channels": 1, "sample_rate_hz": 16000'
    ),
    "other spaces": lambda line: json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n",
    "an end of a line of Windows": lambda line: line[:-1] + b"\r\n",
    "no checksum, as of earlier versions": without_checksum,
    "another checksum": lambda line: line[:-4] + (b"0" if line[-4:-3] != b"0" else b"1") + line[-3:],
    "a checksum of nothing": lambda line: line.replace(line[-19:-3], blake2b(b"", digest_size=8).hexdigest().encode()),
    "a checksum first": lambda line: b'{"checksum": "0", ' + without_checksum(line)[1:],
    "cut": lambda line: line[:200] + b"\n",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_record_is_done_again(earlier, change):
    changed = CHANGES[change](earlier[1])
    assert changed != earlier[1]
    Path("r.jsonl").write_bytes(b"".join([earlier[0], changed, *earlier[2:]]))
    assert resumed() == ["b.wav"]
    assert Path("r.jsonl").read_bytes() == b"".join(earlier)


def test_a_changed_record_leaves_earlier_ones_valid(earlier):
    Path("r.jsonl").write_bytes(b"".join([*earlier, CHANGES["label"](earlier[2])]))
    assert resumed() == []
    assert Path("r.jsonl").read_bytes() == b"".join(earlier)


def test_records_of_other_programs_are_done_again(earlier):
    """They have all our fields and the checksum of another text."""
    others = [
        json.dumps({**json.loads(line), "label": "é"}, ensure_ascii=False).encode()
        for line in map(without_checksum, earlier)
    ]
    lines = [text[:-1] + f', "checksum": "{blake2b(text, digest_size=8).hexdigest()}"}}\n'.encode() for text in others]
    Path("r.jsonl").write_bytes(b"".join(lines))
    assert resumed() == ["a.wav", "b.wav", "c.wav", "d.wav"]


def test_every_changed_byte_of_a_record_is_noticed(samples):
    line = json_line(Classifier(device="cpu").classify(samples[0]), timeline=True).encode()
    assert is_as_written(line)
    for at in range(len(line)):
        assert not is_as_written(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :])
        assert not is_as_written(line[:at] + line[at + 1 :])


def test_a_checksum_covers_the_rest_of_its_line(samples, capsys):
    """Other programs can check it: it is the last field of each line."""
    cli.main(["classify", "--format", "jsonl", str(samples[0]), "missing.wav"])
    for line in capsys.readouterr().out.splitlines(keepends=True):
        record = json.loads(line)
        assert list(record)[-1] == "checksum"
        assert record["checksum"] == blake2b(without_checksum(line.encode())[:-1], digest_size=8).hexdigest()
    cli.main(["classify", "--format", "json", str(samples[0])])
    assert "checksum" not in capsys.readouterr().out


def test_a_copy_of_a_finished_run_is_resumed(earlier, tmp_path):
    """A record does not depend on the place of its file."""
    shutil.move("r.jsonl", "r.jsonl.part")
    assert resumed() == []
    assert Path("r.jsonl").read_bytes() == b"".join(earlier)


@pytest.mark.parametrize("name", ["xlsx", "json"])
def test_an_abandoned_document_can_be_read(folder, samples, name):
    output = FileOutput(f"a.{name}", FORMATS[name](("speech", "music"), False))
    output.write((Classifier(device="cpu").classify(samples[0]),))
    assert "holds the results so far" in output.abandon()
    (part,) = Path().iterdir()
    if name == "json":
        assert len(json.loads(part.read_text())) == 1
    else:
        part.rename("part.xlsx")
        assert openpyxl.load_workbook("part.xlsx").active.max_row == 2


def test_a_workbook_that_excel_saved_is_kept(folder, samples):
    recorded("rec")
    command = ["classify", "-q", "rec", "-o", "./", "--format", "xlsx"]
    assert cli.main(command) == cli.main(command) == 0  # its own is replaced
    with zipfile.ZipFile("rec.xlsx", "w") as saved:  # by Excel, which begins with another part
        saved.writestr("[Content_Types].xml", "<Types/>")
    before = Path("rec.xlsx").read_bytes()
    assert cli.main(command) == 1
    assert Path("rec.xlsx").read_bytes() == before
