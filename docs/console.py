"""Run the commands that the pages show, and compare what they print with what is shown.

A block is run if it is a console block and its command shows output. A shown line that ends in `...`
stands for any line that begins so, and a line `...` for any lines.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```console\n(.*?)^```", re.S | re.M)
COLUMNS = "100"


@dataclass(frozen=True)
class Command:
    """A command of a page and the output that the page shows for it."""

    line: str
    shown: str


def commands(block: str) -> list[Command]:
    """Return the commands of a console block."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        line, _, shown = part.partition("\n")
        while line.endswith("\\"):  # the command continues on the next line
            more, _, shown = shown.partition("\n")
            line += f"\n{more}"
        found.append(Command(line, shown))
    return found


def prepare(folder: Path) -> None:
    """Link what commands name into the folder in which they run.

    Also write call.wav: a speaker in channel 1, music on hold in channel 2.
    """
    for name in ("tests", "docs"):
        (folder / name).symlink_to(ROOT / name)
    sides = [soundfile.read(ROOT / "tests" / "data" / name) for name in ("speech_italian_man.wav", "music_zaz.wav")]
    soundfile.write(folder / "call.wav", np.stack([samples for samples, _ in sides], axis=1), sides[0][1])


def run(command: str, folder: Path) -> str:
    """Run a command in a folder and return what it prints on stdout."""
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", "")])
    env = {**os.environ, "COLUMNS": COLUMNS, "PATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, env=env)
    if done.returncode and "error" not in done.stdout:  # a record of an error is shown on purpose
        raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def matches(shown: str, printed: str, digits: bool = True) -> bool:
    """Tell whether a command printed what a page shows.

    JSON is compared by value: the sixth digit of a probability differs between processors. With
    `digits=False` every number matches every other, for output of trainings.
    """
    if shown.lstrip().startswith(("{", "[")):
        return bool(_comparable(json.loads(shown)) == _comparable(json.loads(printed or "null")))
    if not digits:
        shown, printed = _without_digits(shown), _without_digits(printed)
    lines = printed.splitlines()
    if not any(line.endswith("...") for line in shown.splitlines()):
        return shown.splitlines() == lines
    return all(
        any(other.startswith(line.removesuffix("...").rstrip()) for other in lines)
        if line.endswith("...")
        else line in lines
        for line in shown.splitlines()
    )


def filled(command: Command, printed: str, digits: bool = True) -> str:
    """Return what a page shall show for a command that printed this."""
    if command.shown.strip() and matches(command.shown, printed, digits):
        return command.shown  # no change where nothing has changed: times of files, the last digits
    shown = command.shown.splitlines()
    if not any(line.endswith("...") for line in shown):
        return printed
    by_name = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    return "".join(f"{line if line.endswith('...') else by_name[line.split()[0]]}\n" for line in shown)


def refreshed(text: str, folder: Path, every: bool = False, digits: bool = True) -> str:
    """Return a page with the output that its commands print now.

    Run only commands that show output, or `every` command of the page except installations.
    """

    def block(found: re.Match[str]) -> str:
        parts = []
        for each in commands(found[1]):
            shown = each.shown
            if shown.strip() or (every and not each.line.startswith("pip ")):
                printed = run(each.line, folder)
                shown = filled(each, printed, digits) if shown.strip() else shown
            parts.append(f"$ {each.line}\n{shown}")
        return f"```console\n{''.join(parts)}```"

    return BLOCK.sub(block, text)


def shown_commands(text: str) -> Iterable[Command]:
    """Yield the commands of a page that show output."""
    for found in BLOCK.finditer(text):
        yield from (each for each in commands(found[1]) if each.shown.strip())


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items() if key not in ("modified", "checksum")}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def _without_digits(text: str) -> str:
    return re.sub(r" +", " ", re.sub(r"-?\d[\d,.]*(e[+-]?\d+)?", "0", text))
