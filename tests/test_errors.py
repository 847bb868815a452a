"""The error codes: the table is complete, and errors keep their code between processes."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

from ms_edge.errors import ERROR_CODES, AudioError, UsageError
from ms_export.errors import ExportError
from ms_train.errors import DataError, RunError

ROOT = Path(__file__).parent.parent


def _named_codes() -> Iterator[str]:
    """Yield the codes that the source gives to an error or to a Failure, or assigns to a variable `code`."""
    for package in ("edge/ms_edge", "train/ms_train", "export/ms_export", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    position = 1 if node.func.id == "Failure" else 0 if node.func.id.endswith("Error") else None
                    if position is not None and len(node.args) > position + 1:
                        yield from _strings(node.args[position])
                elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
                    yield from _strings(node.value)


def _strings(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant) and re.fullmatch("[a-z]+(-[a-z]+)+", str(node.value)):
            yield node.value


def test_table_holds_exactly_the_raised_codes():
    assert {*_named_codes(), "usage"} == set(ERROR_CODES)


def test_codes_are_in_alphabetical_order():
    assert list(ERROR_CODES) == sorted(ERROR_CODES)


def test_each_code_has_one_sentence():
    for code, meaning in ERROR_CODES.items():
        assert re.fullmatch(r"[A-Z][^\n]+\.", meaning), code


def test_errors_keep_code_and_message_when_pickled():
    for error in (
        UsageError("Give a file."),
        AudioError("not-audio", "a.txt: not audio."),
        DataError("bad-data", "No recording."),
        RunError("bad-run", "No run."),
        ExportError("no-parity", "Differs."),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.code, str(copy)) == (type(error), error.code, str(error))
