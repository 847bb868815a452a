"""The README and docs/ show what the program prints."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
import shtab

from ms_edge.cli import arguments

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text("utf-8")


def blocks(text: str) -> dict[str, str]:
    """Console blocks of a page: command -> what follows it."""
    found = {}
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found[command] = output
    return found


def run(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    ).stdout


def test_demo_output_is_real():
    shown = blocks(README)["make demo"]
    samples = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "data").glob("*.wav"))
    printed = run("ms_edge.cli", "classify", *samples)
    assert printed in shown
    assert [line.split()[0] for line in printed.splitlines()[1:]] == [
        Path(path).name.partition("_")[0] for path in samples
    ]


def test_other_ms_edge_output_is_real():
    commands = {
        command: output
        for command, output in blocks(README).items()
        if command.startswith("ms-edge ") and output.strip()
    }
    assert len(commands) == 5
    for command, output in commands.items():
        printed = run("ms_edge.cli", *command.split()[1:]).splitlines()
        for line in output.splitlines():
            if line.startswith("{"):  # the sixth digit of a probability differs between processors
                assert comparable(json.loads(line)) in [comparable(json.loads(other)) for other in printed]
            elif line.endswith("..."):
                assert any(other.startswith(line.removesuffix("...").rstrip()) for other in printed), (
                    f"{command}: {line}"
                )
            elif line.strip():
                assert line in printed, f"{command}: {line}"


def comparable(value: object) -> object:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in ("modified", "checksum")}
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize("command", ["", "classify", "stream", "info", "doctor", "benchmark"])
def test_the_help_of_each_command_is_shown_as_it_is(command):
    shown = blocks((DOCS / "commands.md").read_text("utf-8"))
    printed = run("ms_edge.cli", *command.split(), "--help")
    assert plain(shown[f"ms-edge {command + ' ' if command else ''}--help"]) == plain(printed)
    assert "example: " in printed


def plain(text: str) -> str:
    """Help without what Python versions differ in: line breaks, and whether `-o FILE, --output FILE` repeats itself."""
    text = re.sub(r"(-\w) (\S+), (--[\w-]+) \2", r"\1, \3 \2", text)
    return re.sub(r"\s+", " ", text).strip()


def test_every_command_is_in_the_readme_and_every_option_there_or_on_its_page():
    for module, program, commands, page in (
        ("ms_edge.cli", "ms-edge", ["classify", "stream", "info", "doctor", "benchmark"], ""),
        (
            "ms_train.cli",
            "ms-train",
            ["fit", "tune", "evaluate", "show", "data fetch"],
            (DOCS / "training.md").read_text("utf-8"),
        ),
        (
            "ms_export.cli",
            "ms-export",
            ["convert", "check", "quantize", "triton"],
            (DOCS / "export.md").read_text("utf-8"),
        ),
    ):
        for command in commands:
            help_text = run(module, *command.split(), "--help")
            assert "example" in help_text
            assert f"{program} {command}" in README
            for option in set(re.findall(r"--[a-z-]+", help_text)) - {"--help", "--json"}:
                assert option in README + page, f"{program} {command} {option}"


def test_the_matrix_of_broken_files_is_the_one_that_is_tested():
    page = (DOCS / "robustness.md").read_text("utf-8")
    for name, case in {**hostile.CASES, **hostile.POSIX_CASES}.items():
        if isinstance(case.expected, str):
            what = f"error `{'no-audio' if name == 'directory' else case.expected}`"
        else:
            what = ", ".join(f"`{warning}`" for warning in case.expected) or "classified"
        assert f"| {name} | {what} |" in page


def test_every_code_is_explained():
    page = (DOCS / "robustness.md").read_text("utf-8")
    source = "".join(path.read_text("utf-8") for path in (ROOT / "edge" / "ms_edge").rglob("*.py"))
    codes = set(re.findall(r'(?:Audio|Model|Device)Error\(\s*"([a-z-]+)"', source))
    codes |= set(re.findall(r'_warn\("([a-z-]+)"\)|notes\.append\("([a-z-]+)"\)', source)[0])
    assert len(codes) > 20
    for code in codes - {""}:
        assert f"`{code}`" in page, code


def test_python_examples_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(DOCS / "python.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried > 10


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_scripts_are_those_of_the_command_line(shell):
    script = (DOCS / "completion" / f"ms-edge.{shell}").read_text("utf-8")
    assert script == shtab.complete(arguments.parser(), shell)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_nothing_says_to_install_what_is_not_published():
    """Until a package index has ms-edge, pip finds it in a clone or a folder of wheels alone."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    sources = [path for package in ("edge", "train", "export", "benchmarks") for path in (ROOT / package).rglob("*.py")]
    for path in (*pages, *sources):
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"install .*ms-edge\[", line) or "--find-links" in line, f"{path}: {line}"
