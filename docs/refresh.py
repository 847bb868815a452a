"""Write again what the pages show of the program: `make docs`. The tests check the same without writing.

    python docs/refresh.py [--quick]

`--quick` leaves out the tutorial, whose training and export take some minutes, and the page of
`ms-train show`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
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
    parser.add_argument("--quick", action="store_true", help="leave out the tutorial and the pictures of ms-train show")
    refresh(slow=not parser.parse_args().quick)


def refresh(slow: bool) -> None:
    """Write parts that are generated, outputs of commands, the picture, and the completion scripts."""
    for name, parts in generated.PARTS.items():
        text = (ROOT / name).read_text("utf-8")
        for part, make in parts.items():
            text = generated.with_part(text, part, make())
        (ROOT / name).write_text(text, "utf-8")
    (ROOT / "docs" / "commands.md").write_text(generated.commands_page(), "utf-8")
    for page in pages():
        if slow or page not in SLOW:
            page.write_text(with_output(page), "utf-8")
    picture.PICTURE.write_text(picture.drawn(), "utf-8")
    for shell in ("bash", "zsh"):
        script = ROOT / "docs" / "completion" / f"ms-edge.{shell}"
        script.write_text(shtab.complete(arguments.parser(), shell), "utf-8")


def pages() -> list[Path]:
    """Return the pages whose commands are run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def with_output(page: Path) -> str:
    """Return the text of a page with the output that its commands print now."""
    tutorial = page == TUTORIAL
    with tempfile.TemporaryDirectory() as folder:
        console.prepare(Path(folder))
        return console.refreshed(page.read_text("utf-8"), Path(folder), every=tutorial, digits=not tutorial)


if __name__ == "__main__":
    main()
