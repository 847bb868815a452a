"""Tables as text: in Markdown, and in columns for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns for a terminal: the first aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in rows
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], rule: str = "---") -> str:
    """Return a Markdown table, without a line break at its end; `rule` stands below each heading."""
    lines = [_line(head), f"|{'|'.join([rule] * len(head))}|", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(markdown_cell(str(cell)) for cell in cells) + " |"


def markdown_cell(text: str) -> str:
    """Return a text that stays within one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
