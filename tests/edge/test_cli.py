from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ms_edge.audio.file import read_mono
from ms_edge.cli import arguments
from ms_edge.cli import main as cli

RECORD_KEYS = [
    "schema", "path", "label", "probability", "scores", "seconds", "duration_s", "sample_rate_hz", "channels",
    "container", "codec", "decoder", "warnings", "file", "recorded_at", "settings", "model", "provider", "checksum",
]  # fmt: skip


def records(capsys) -> tuple[list[dict], list[str]]:
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err.splitlines()


def test_samples_get_correct_labels_in_order(samples, capsys):
    paths = [str(path) for path in samples]
    assert cli.main(["classify", "--format", "jsonl", *paths]) == 0
    found, complaints = records(capsys)
    assert [record["path"] for record in found] == paths
    assert [record["label"] for record in found] == [path.name.partition("_")[0] for path in samples]
    assert complaints == []


def test_a_record_has_the_fields_of_the_schema(samples, capsys):
    cli.main(["classify", "--format", "jsonl", str(samples[0])])
    ((record,), _) = records(capsys)
    assert list(record) == RECORD_KEYS
    assert record["schema"] == "ms-edge/1"
    info = soundfile.info(samples[0])
    assert (record["sample_rate_hz"], record["channels"]) == (info.samplerate, info.channels)
    assert record["duration_s"] == pytest.approx(info.duration, abs=1e-3)
    assert sum(record["seconds"].values()) == pytest.approx(info.duration, abs=2e-3)
    assert all(0 <= score <= 1 for score in record["scores"].values())
    assert len(record["model"]) == 64
    assert record["provider"] == "CPUExecutionProvider"


def test_text_is_an_aligned_table(samples, capsys):
    assert cli.main(["classify", *map(str, samples)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["LABEL", "PROBABILITY", "SHARE", "DURATION", "PATH"]
    assert {row.split()[2] for row in rows} == {"100%"}
    at = header.index("PATH")
    assert [row[at:] for row in rows] == [str(path) for path in samples]


def test_each_failure_has_a_record_and_a_line(samples, tmp_path, capsys):
    empty, text, bare = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "bare"
    empty.touch()
    text.write_text("I am not audio.\n" * 100)
    bare.mkdir()
    (bare / "readme.txt").write_text("no audio here")
    missing = tmp_path / "missing.wav"
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(100), 16_000)
    given = [str(samples[0]), *map(str, (missing, bare, text, empty, short)), str(samples[-1])]
    assert cli.main(["classify", "--format", "jsonl", *given]) == 1
    found, complaints = records(capsys)
    assert [record["path"] for record in found] == given
    assert [record["error"]["code"] for record in found[1:-1]] == [
        "not-found",
        "no-audio",
        "not-audio",
        "empty-file",
        "too-short",
    ]
    assert "label" in found[0]
    assert "label" in found[-1]
    assert [line for line in complaints if "ms-edge: " in line] == complaints
    for path, line in zip(given[1:-1], complaints, strict=True):
        assert path in line


def test_failures_are_rows_of_the_table_too(tmp_path, capsys):
    assert cli.main(["classify", str(tmp_path / "missing.wav")]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].startswith("error")
    assert "missing.wav (not-found)" in captured.out


def test_a_directory_stands_for_its_audio_files(samples, tmp_path, capsys):
    for name in ("b.WAV", "a.wav"):
        shutil.copy(samples[0], tmp_path / name)
    (tmp_path / ".hidden.wav").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.wav").mkdir()
    assert cli.main(["classify", "--format", "jsonl", str(tmp_path)]) == 0
    assert [Path(record["path"]).name for record in records(capsys)[0]] == ["a.wav", "b.WAV"]


def test_silence_is_called_silence(tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", np.zeros(48_000), 16_000)
    assert cli.main(["classify", "--format", "jsonl", str(tmp_path / "a.wav")]) == 0
    ((record,), _) = records(capsys)
    assert (record["label"], record["probability"], record["seconds"]) == ("silence", 1.0, {"silence": 3.0})


@pytest.mark.parametrize("duration_s", [0.25, 0.3, 0.999, 1.0, 1.001, 61.7])
def test_any_length_from_quarter_second_is_scored(samples, tmp_path, capsys, duration_s):
    audio, rate = soundfile.read(samples[0], always_2d=True)
    soundfile.write(tmp_path / "a.wav", np.resize(audio[:, 0], round(duration_s * rate)), rate)
    assert cli.main(["classify", "--format", "jsonl", str(tmp_path / "a.wav")]) == 0
    ((record,), _) = records(capsys)
    assert record["duration_s"] == pytest.approx(duration_s, abs=1e-3)
    assert sum(record["seconds"].values()) == pytest.approx(duration_s, abs=2e-3)
    assert all(0 <= score <= 1 for score in record["scores"].values())


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
def test_names_that_are_not_text_pass_through(samples, tmp_path, capsys):
    path = os.path.join(str(tmp_path), os.fsdecode(b"a\xff\n.wav"))
    shutil.copy(samples[0], path)
    assert cli.main(["classify", path]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["classify", "--format", "jsonl", path]) == 0
    assert records(capsys)[0][0]["path"] == path


def test_names_the_terminal_cannot_show_are_escaped(samples, tmp_path):
    shutil.copy(samples[0], tmp_path / "été.wav")
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "été.wav", "où.wav"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert r"\xe9t\xe9.wav" in run.stdout
    assert run.stderr == "ms-edge: o\\xf9.wav: no such file or directory.\n"


@pytest.mark.native
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc hands freed memory back")
def test_freed_memory_is_reused(samples, tmp_path):
    """Ten minutes of audio cause hardly more page faults than a few seconds."""
    audio, rate_hz = soundfile.read(samples[-1], dtype="int16")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.resize(audio, 600 * rate_hz), rate_hz)
    run = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    run += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt)"

    def faults(path) -> int:
        command = [sys.executable, "-c", run, sys.executable, "-m", "ms_edge.cli", "classify", str(path)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults(long) - faults(samples[-1]) < 5_000  # 40,000 if freed memory is returned to the system


def test_info_shows_the_facts_of_a_model(capsys):
    assert cli.main(["info"]) == 0
    shown = capsys.readouterr().out
    for fact in (
        "mel_residual",
        "speech, music",
        "16,000 Hz",
        "independent",
        "training.dataset",
        "parity.scores",
        "license",
    ):
        assert fact in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["classify", "--model", "missing.onnx", "a.wav"], 3),
        (["info", "missing.onnx"], 3),
        (["classify", "--device", "cuda", "a.wav"], 3),
        (["classify", "--device", "tpu", "a.wav"], 3),
        (["classify", "--device", "cuda:x", "a.wav"], 2),
    ],
)
def test_unusable_models_and_devices_have_their_exit_codes(arguments, code, capsys):
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["classify", "--format", "xml", "a.wav"], ["nonsense"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["classify"], "Nothing to classify"),
        (["classify", "-", "-"], "only once"),
        (["classify", "-", "--files-from", "-"], "only once"),
        (["classify", "--files-from", "missing.txt"], "missing.txt"),
        (["classify", "--jobs", "0", "a.wav"], "--jobs"),
        (["classify", "--shard", "3/2", "a.wav"], "I/N"),
        (["classify", "--shard", "x", "a.wav"], "I/N"),
        (["classify", "--shard", "1/" + "9" * 5_000, "a.wav"], "I/N"),
        (["classify", "--raw", "16000", "a.wav"], "RATE:CHANNELS:FORMAT"),
        (["classify", "--raw", "9" * 5_000 + ":1:s16le", "a.wav"], "RATE:CHANNELS:FORMAT"),
        (["classify", "--raw", "16000:1:s16le", "--wav-only", "a.wav"], "give one"),
        (["stream", "--raw", "16000:1:s16le", "--wav-only", "-"], "give one"),
        (["classify", "-0", "a.wav"], "--files-from"),
        (["classify", "-o", "", "a.wav"], "-o needs"),
        (["classify", "-o", "new.wav", "a.wav"], "has the suffix of a recording"),
        *(
            (
                ["classify", "-o", f"a.{suffix}", "a.wav"],
                f"no format has the suffix .{suffix}; the suffixes are .txt, .jsonl,",
            )
            for suffix in ("html", "pdf", "doc", "2026")
        ),
        (["classify", "--hop", "0", "a.wav"], "hop"),
        (["classify", "--hop", "1.5", "a.wav"], "hop"),
        (["classify", "--hop", "nan", "a.wav"], "hop"),
        (["classify", "--min-duration=-1", "a.wav"], "minimum duration"),
        (["classify", "--min-duration", "nan", "a.wav"], "minimum duration"),
        (["classify", "--min-confidence", "2", "a.wav"], "confidence"),
        (["classify", "--threshold", "0.6", "a.wav"], "takes LABEL=P, as in speech=0.6, not '0.6'"),
        (["classify", "--threshold", "speech=much", "a.wav"], "takes LABEL=P"),
        (["classify", "--threshold", "music=1", "a.wav"], "music must be more than 0 and less than 1, not 1."),
        (["classify", "--threshold", "music=nan", "a.wav"], "less than 1, not nan."),
        (
            ["stream", "--threshold", "voice=.3", "--threshold", "bells=.3", "a.wav"],
            "no label 'voice', 'bells' to set a threshold for; it has speech, music.",
        ),
        (["classify", "--binary", "--threshold", "speech=0.6", "a.wav"], "give one of the two"),
        (["classify", "--format", "textgrid", "a.wav", "b.wav"], "-o DIR/"),
        (["classify", "--resume", "a.wav"], "--resume needs"),
        (["classify", "--resume", "-o", "a.csv", "a.wav"], "--resume needs"),
        (["classify", "-o", "no/such/directory/a.csv", "a.wav"], "cannot be written"),
    ],
)
def test_each_usage_error_is_one_sentence(arguments, says, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_reader_that_stops_early_is_no_error(samples):
    command = [sys.executable, "-m", "ms_edge.cli", "classify", *map(str, samples * 20)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only here is there a device that is always full")
def test_a_full_disk_is_one_sentence(samples):
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "ms_edge.cli", "classify", samples[0]],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr == "ms-edge: the output cannot be written (no space left on device).\n"


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.skipif(sys.platform != "linux", reason="only here is there a device that is always full")
@pytest.mark.parametrize(
    "arguments",
    [["info"], ["doctor"], ["benchmark", "--seconds", "0.1"], ["--help"], ["classify", "--help"], ["--version"]],
)
def test_full_or_closed_output_gives_no_traceback(arguments):
    command = [sys.executable, "-m", "ms_edge.cli", *arguments]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED)
    assert (run.returncode, run.stderr) == (1, "ms-edge: the output cannot be written (no space left on device).\n")
    read_end, write_end = os.pipe()
    os.close(read_end)
    run = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED)
    os.close(write_end)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe can be set only here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_no_part_of_a_result_is_lost_without_a_word(unbuffered):
    """A write may take a part of a record only, as on a disk that becomes full or into this pipe."""
    import fcntl  # Windows has none

    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write_end, False)
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "--format", "jsonl", *["tests/data/music_zaz.wav"] * 20]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    run = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, env=env)
    os.close(write_end)
    os.close(read_end)
    assert run.returncode == 1
    assert run.stderr.startswith("ms-edge: the output cannot be written (")


def test_events_are_json_in_every_encoding(tmp_path):
    path = shutil.copy("tests/data/music_zaz.wav", tmp_path / "é.wav")
    command = [sys.executable, "-m", "ms_edge.cli", "stream", "--format", "jsonl", str(path)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out = subprocess.run(command, capture_output=True, check=True, env=env).stdout
    assert {json.loads(line)["source"] for line in out.splitlines()} == {str(path)}


PRINTING = """
import os
from ms_edge.audio import file as audio
from ms_edge.cli import main as cli
quiet = audio.open_sound
def open_sound(*arguments):
    os.write(1, b"Error A : 00\\n")  # as libsndfile does
    os.write(2, b"Note: Illegal header\\n")
    return quiet(*arguments)
audio.open_sound = open_sound
cli.command()
"""


@pytest.mark.parametrize("arguments", [[], ["--format", "jsonl"], ["--format", "csv", "-j", "2"], ["-v", "-j", "1"]])
@pytest.mark.parametrize("unbuffered", [pytest.param("", marks=pytest.mark.slow), "1"])
def test_results_exclude_what_c_libraries_print(samples, arguments, unbuffered):
    rest = ["classify", *arguments, *map(str, samples[:3])]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    quiet, noisy = (
        subprocess.run([sys.executable, *program, *rest], capture_output=True, text=True, check=True, env=env)
        for program in (["-m", "ms_edge.cli"], ["-c", PRINTING])
    )
    assert noisy.stdout == quiet.stdout
    lines = [line for line in noisy.stderr.splitlines() if not line.startswith("ms-edge: ")]
    assert lines == (["Error A : 00", "Note: Illegal header"] * 3 if "-v" in arguments else [])


@pytest.mark.skipif(os.name != "posix", reason="no shell")
def test_merged_stream_excludes_what_c_libraries_print(samples):
    merged = subprocess.run(
        [sys.executable, "-c", PRINTING, "classify", str(samples[0]), "missing.wav"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert merged.returncode == 1
    assert len(merged.stdout.splitlines()) == 4
    assert "Error A" not in merged.stdout
    assert "ms-edge: missing.wav: no such file or directory." in merged.stdout.splitlines()


@pytest.mark.skipif(os.name != "posix", reason="no shell")
@pytest.mark.parametrize(("output", "status"), [([], 1), (["-o", "a.csv"], 0)])
def test_closed_standard_output_fails(samples, tmp_path, output, status):
    run = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "ms_edge.cli", "classify", str(samples[0]), *output],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status
    assert run.stderr == ("ms-edge: the output cannot be written (bad file descriptor).\n" if status else "")
    assert len(list(tmp_path.iterdir())) == len(output) / 2


def test_commands_import_only_what_they_use(tmp_path, samples):
    path = tmp_path / "a.wav"
    soundfile.write(path, read_mono(samples[0], 16_000), 16_000, "PCM_16")
    code = (
        "import sys, numpy, onnxruntime, soundfile; theirs = set(sys.modules)\n"
        "from ms_edge.cli import main as cli\n"
        f"assert cli.main(['classify', {str(path)!r}]) == 0\n"
        "unused = {'scipy', 'soxr', 'tqdm', 'pathlib', 'csv', 'secrets', 'concurrent.futures', 'logging'}\n"
        "assert not unused & (set(sys.modules) - theirs), unused & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from ms_edge.cli import main as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'scipy', 'onnxruntime', 'soundfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


COMMANDS = list(next(a for a in arguments.parser()._actions if a.dest == "command").choices or ())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_parser_of_one_command_is_that_of_all(command, capsys):
    for given in ([command, "--help"], [command, "--wrong"], [command]):
        said = []
        for parser in (arguments.parser(), arguments.parser(command)):
            try:
                said.append(vars(parser.parse_args(given)))
            except SystemExit as end:
                said.append((end.code, capsys.readouterr()))
        assert said[0] == said[1]


@pytest.mark.parametrize(
    "command", [["classify"], ["stream", "-"], ["info"], ["doctor"], ["benchmark"]], ids=lambda command: command[0]
)
def test_options_have_the_parsers_fields(command):
    parsed = vars(arguments.parser().parse_args(command))
    options = import_module(f"ms_edge.cli.{parsed.pop('command')}").Options
    assert {field.name for field in dataclasses.fields(options)} == set(parsed)
