"""Files that appear whole or not at all, and replace nothing of others."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ms_edge.errors import UsageError, reason


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder, which takes the place of `path` at the
    end.

    The temporary name ends as `path` does. Where anything is raised, `path` stays as it was and the
    temporary file is removed. Raises OSError.

    A process that is killed (SIGKILL) leaves the temporary file. It is not removed later: on a
    shared disk, its process may run on another machine.
    """
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def make_report_folder(out: Path, schema: str, names: Sequence[str]) -> None:
    """Make the folder of a report: call it before the work, so that an error costs no time.

    `schema` is that of its report.json, and `names` are its other files. Raises UsageError if the
    folder cannot be made, or if it holds a file of such a name and no report of this schema.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made ({reason(error)}); give -o a folder.") from None
    try:
        ours = json.loads((out / "report.json").read_text("utf-8"))["schema"] == schema
    except (OSError, ValueError, LookupError, TypeError):
        ours = False
    if taken := [name for name in ("report.json", *names) if not ours and os.path.lexists(out / name)]:
        raise UsageError(f"{out / taken[0]}: is of no earlier report and is not replaced; give -o another folder.")


def require_own(path: Path, start: bytes, what: str) -> None:
    """Raise UsageError if there is something at `path` that is no empty file and does not begin with
    `start`, a regular expression: it belongs to somebody else. `what` says what may be replaced.
    """
    if not os.path.lexists(path):
        return
    own = False
    if path.is_file():
        with path.open("rb") as file:
            content = file.read(len(start) + 16)
        own = not content or re.match(start, content, re.DOTALL) is not None
    if not own:
        raise UsageError(f"{path}: exists, is no {what}, and is not replaced; give another name.")
