"""Write anew what the pages show of the program: `make docs`. The tests check the same without writing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import shtab

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "edge"))

import hostile  # noqa: E402

from ms_edge.cli import arguments  # noqa: E402


def run(command: str) -> str:
    """What `ms-edge ...` prints in the root of the repository, in a hundred columns."""
    program = [sys.executable, "-m", "ms_edge.cli", *command.split()[1:]]
    env = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, env=env).stdout


def filled(block: re.Match[str]) -> str:
    """A console block of the README with the output of its commands; lines that end in `...` stay as they are."""
    parts = []
    for part in re.split(r"^\$ ", block[1], flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        if command == "make demo":
            samples = " ".join(sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "data").glob("*.wav")))
            shown = ".venv/bin/ms-edge classify tests/data/*.wav\n" + run(f"ms-edge classify {samples}")
        elif command.startswith("ms-edge ") and shown.strip():
            printed = run(command)
            if "..." in shown:
                by_name = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
                lines = [line if line.endswith("...") else by_name[line.split()[0]] for line in shown.splitlines()]
                printed = "\n".join(lines) + "\n"
            shown = printed
        parts.append(f"$ {command}\n{shown}")
    return f"```console\n{''.join(parts)}```"


def refresh() -> None:
    """Write README.md, docs/commands.md, the matrix in docs/robustness.md, the scores in docs/triton.md, and the completion scripts."""
    readme = ROOT / "README.md"
    readme.write_text(re.sub(r"```console\n(.*?)```", filled, readme.read_text("utf-8"), flags=re.S), "utf-8")

    pages = ["# Commands\n\nWhat `--help` says.\n"]
    for command in ("", " classify", " stream", " info", " doctor", " benchmark"):
        pages.append(
            f"## ms-edge{command}\n\n```console\n$ ms-edge{command} --help\n{run(f'ms-edge{command} --help')}```\n"
        )
    (ROOT / "docs" / "commands.md").write_text("\n".join(pages), "utf-8")

    rows = []
    for name, case in {**hostile.CASES, **hostile.POSIX_CASES}.items():
        expected = "no-audio" if name == "directory" else case.expected
        answer = f"error `{expected}`" if isinstance(expected, str) else ", ".join(f"`{code}`" for code in expected)
        rows.append(f"| {name} | {answer or 'classified'} |\n")
    page = ROOT / "docs" / "robustness.md"
    before, _, rest = page.read_text("utf-8").partition("| file | record |\n|---|---|\n")
    after = rest[rest.index("\n\n") + 1 :]
    page.write_text(f"{before}| file | record |\n|---|---|\n{''.join(rows)}{after}", "utf-8")

    page = ROOT / "docs" / "triton.md"
    (recording,) = set(re.findall(r"tests/data/\w+\.wav", page.read_text("utf-8")))
    scores = json.loads(run(f"ms-edge classify --format jsonl {recording}"))["scores"]
    shown = "".join(f"{label} {score:.4f}\n" for label, score in scores.items())
    page.write_text(
        re.sub(r"(prints\n\n```\n).*?```", rf"\g<1>{shown}```", page.read_text("utf-8"), flags=re.S), "utf-8"
    )

    for shell in ("bash", "zsh"):
        (ROOT / "docs" / "completion" / f"ms-edge.{shell}").write_text(
            shtab.complete(arguments.parser(), shell), "utf-8"
        )


if __name__ == "__main__":
    refresh()
