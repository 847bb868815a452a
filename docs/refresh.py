"""Write again what the pages show of the program: `make docs`. The tests check the same without writing.

    python docs/refresh.py [--quick]

`--quick` leaves out the tutorial, whose training and export take some minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import shtab

sys.path[:0] = [str(Path(__file__).parent)]

import console  # noqa: E402
import generated  # noqa: E402
import picture  # noqa: E402

from ms_edge.cli import arguments  # noqa: E402

ROOT = console.ROOT
TUTORIAL = ROOT / "docs" / "tutorial.md"
SLOW = (TUTORIAL, ROOT / "docs" / "augmentation.md")  # pages whose commands train or draw


def main() -> None:
    """Refresh the pages."""
    parser = argparse.ArgumentParser(description="Write again what README.md and docs/ show of the program.")
    parser.add_argument("--quick", action="store_true", help="without the tutorial and the pictures of ms-train show")
    refresh(slow=not parser.parse_args().quick)


def refresh(slow: bool) -> None:
    """Write parts that are generated, outputs of commands, the picture, and the completion scripts."""
    for name, parts in generated.PARTS.items():
        for part, make in parts.items():
            edit(ROOT / name, lambda text, part=part, make=make: generated.with_part(text, part, make()))
    (ROOT / "docs" / "commands.md").write_text(generated.commands_page(), "utf-8")
    for page in pages():
        if page in SLOW and not slow:
            continue
        with tempfile.TemporaryDirectory() as folder:
            console.prepare(Path(folder))
            tutorial = page == TUTORIAL
            edit(page, lambda text: console.refreshed(text, Path(folder), every=tutorial, digits=not tutorial))
    picture.PICTURE.write_text(picture.drawn(), "utf-8")
    for shell in ("bash", "zsh"):
        script = ROOT / "docs" / "completion" / f"ms-edge.{shell}"
        script.write_text(shtab.complete(arguments.parser(), shell), "utf-8")


def pages() -> list[Path]:
    """Return the pages whose commands are run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def edit(page: Path, change: Callable[[str], str]) -> None:
    """Replace the text of a page."""
    page.write_text(change(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
