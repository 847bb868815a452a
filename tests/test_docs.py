"""The README shows what the program prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks() -> dict[str, str]:
    """Console blocks of the README: command -> what follows it."""
    found = {}
    for block in re.findall(r"```console\n(.*?)```", README, re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found[command] = output
    return found


def run(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_demo_output_is_real():
    shown = blocks()["make demo"]
    samples = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "data").glob("*.wav"))
    printed = run("ms_edge.cli", "classify", *samples)
    assert printed in shown
    assert [line.split()[0] for line in printed.splitlines()[1:]] == [
        Path(path).name.partition("_")[0] for path in samples
    ]


def test_other_ms_edge_output_is_real():
    commands = {
        command: output for command, output in blocks().items() if command.startswith("ms-edge ") and output.strip()
    }
    assert len(commands) == 3
    for command, output in commands.items():
        printed = run("ms_edge.cli", *command.split()[1:]).splitlines()
        for line in output.splitlines():
            if line.startswith("{"):  # the sixth digit of a probability differs between processors
                assert rounded(json.loads(line)) in [rounded(json.loads(other)) for other in printed]
            elif line.strip() and line != "...":
                assert line in printed, f"{command}: {line}"


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def test_every_command_and_option_is_in_the_readme():
    for module, program, commands in (
        ("ms_edge.cli", "ms-edge", ["classify", "info"]),
        ("ms_train.cli", "ms-train", ["fit", "data fetch"]),
        ("ms_export.cli", "ms-export", ["convert"]),
    ):
        for command in commands:
            help_text = run(module, *command.split(), "--help")
            assert "example: " in help_text
            assert f"{program} {command}" in README
            for option in set(re.findall(r"--[a-z-]+", help_text)) - {"--help"}:
                assert option in README, f"{program} {command} {option}"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
