"""The command line of `ms-train`: errors before TensorFlow is imported, help, and the end of the
process.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ms_edge.cli import arguments as edge_arguments
from ms_export import cli as export_cli
from ms_train.cli import arguments
from ms_train.cli import main as cli
from ms_train.recipes.by_name import recipes

PARSERS = {"ms-edge": edge_arguments.parser, "ms-train": arguments.parser, "ms-export": export_cli.parser}


def test_recipes_are_named_as_their_modules():
    assert arguments.recipe_names() == sorted(recipes())
    assert all(name == recipe.name for name, recipe in recipes().items())


@pytest.mark.parametrize("command", ["fit", "tune", "show"])
def test_a_wrong_recipe_is_refused_without_tensorflow(command):
    code = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; from ms_train.cli import main as cli; cli.command()"
    others = [] if command == "show" else ["--data", "folder:x", "--out", "y"]
    for name, status in (("resnet", 2), ("mel_dscnn", 3)):  # 3: TensorFlow is missing
        done = subprocess.run(
            [sys.executable, "-c", code, command, "--recipe", name, *others], capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        wrong = "argument --recipe: there is no recipe 'resnet'; there are linear_dscnn, logstft_cnn, mel_attention"
        assert (wrong in done.stderr) == (status == 2)


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the help of a parser and of all its commands."""
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from helps(command)


@pytest.mark.parametrize("program", PARSERS)
def test_help_has_no_argparse_placeholders(program):
    found = list(helps(PARSERS[program]()))
    assert len(found) > 4
    for text in found:
        assert "%%" not in text
        assert "%(" not in text


# About one in three processes aborts if the interpreter shuts down while TensorFlow's threads make
# batches. That is too rare to wait for here.
ENDS = """
import atexit, sys
from ms_train.cli import main as cli

def end(args):
    print("printed")
    if sys.argv[2] == "interrupted":
        raise KeyboardInterrupt
    return 0

atexit.register(print, "Python was taken down")
cli.COMMANDS["compare"] = end
cli.command()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("well", 0), ("interrupted", 130)])
def test_process_ends_without_interpreter_shutdown(how, status):
    done = subprocess.run([sys.executable, "-c", ENDS, "compare", how], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "printed\n"), done.stderr
    assert ("ms-train: interrupted." in done.stderr) == (status == 130)


# Processes that a shell starts in the background ignore SIGINT, and so do their children. The tests
# may be such a process.
FEW_WINDOWS = """
import dataclasses, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from ms_train.recipes import mel_dscnn

mel_dscnn.RECIPE = dataclasses.replace(mel_dscnn.RECIPE, bank_windows=256, scenes=False)
from ms_train.cli import main as cli

cli.command()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_exits_with_130(tmp_path, copy_by_label):
    data, out = copy_by_label(tmp_path / "data"), tmp_path / "run"
    command = [sys.executable, "-c", FEW_WINDOWS, "fit", "--recipe", "mel_dscnn", "--data", f"folder:{data}"]
    command += ["--out", str(out), "--cache", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        while not (out / "run.json").exists():
            assert training.poll() is None, training.stderr.read()
            time.sleep(0.1)
        time.sleep(5)
        training.send_signal(signal.SIGINT)
        printed, errors = training.communicate(timeout=60)
    assert training.returncode == 130, errors
    assert (printed, errors.splitlines()[-1]) == ("", "ms-train: interrupted.")
    assert not (out / "metrics.json").exists()


@pytest.mark.usefixtures("small_networks", "no_pictures")
def test_resuming_a_finished_training_succeeds(tmp_path, copy_by_label, capsys):
    data = copy_by_label(tmp_path / "data")
    arguments = ["fit", "--recipe", "resized_cnn", "--data", f"folder:{data}", "--out", str(tmp_path / "run")]
    arguments += ["--epochs", "1", "--cache", "none"]
    assert cli.main(arguments) == 0
    before = {path.name: path.read_bytes() for path in Path(tmp_path / "run").iterdir()}
    capsys.readouterr()
    assert cli.main([*arguments, "--resume"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        f"ms-train: {tmp_path / 'run'}: this training is finished; there is nothing to resume.\n",
    )
    assert {path.name: path.read_bytes() for path in Path(tmp_path / "run").iterdir()} == before
    assert cli.main([*arguments, "--resume", "--seed", "1"]) == 2  # another training than the finished one
