"""The writer of XLSX workbooks, with openpyxl (extra `report`), which is imported only for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, TextIO

from ms_edge.errors import DeviceError
from ms_edge.output.writers import Result, Table, printable

MOST_ROWS = 1_048_576  # of a sheet in Excel; what comes after them is on a further sheet
WIDEST, PATH_WIDTH = 24, 48  # of columns, in characters


def workbook_class() -> Any:
    """Return openpyxl's class of workbooks. Raises DeviceError if openpyxl is not installed."""
    try:
        from openpyxl import Workbook
    except ImportError:
        raise DeviceError(
            "no-report",
            "An XLSX file needs openpyxl, which is not installed (pip install openpyxl, or ms-edge with its extra report).",
        ) from None
    return Workbook


def save(workbook: Any, file: BinaryIO) -> None:
    """Write a workbook of openpyxl. Raises OSError if the disk is full, and then writes nothing more.

    `Workbook.save` would try again when its archive is collected, and print a traceback.
    """
    from zipfile import ZIP_DEFLATED, ZipFile

    from openpyxl.writer.excel import ExcelWriter

    archive = ZipFile(file, "w", ZIP_DEFLATED)
    try:
        ExcelWriter(workbook, archive).save()
    except BaseException:
        archive.fp = None
        raise


class Xlsx(Table):
    """An Excel workbook with a header row that stays in sight and filters rows.

    openpyxl writes rows to a temporary file, so memory does not grow with them. Raises DeviceError
    if openpyxl is not installed.
    """

    suffix = "xlsx"
    binary = True

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._new = workbook_class()

    def begin(self) -> str:
        """Begin a workbook. Its text is "": it is written as a whole at the end."""
        self._workbook = self._new(write_only=True)
        self._add_sheet()
        return ""

    def record(self, result: Result) -> str:
        """Add one row, or one row per segment. Return ""."""
        for facts in self._rows(result):
            if self._length == MOST_ROWS:
                self._end_sheet()
                self._add_sheet()
            self._append(facts.get(column, "") for column in self._columns())
        return ""

    def end(self, file: TextIO) -> None:
        """Write the workbook to the binary layer of a text file."""
        self._end_sheet()
        save(self._workbook, file.buffer)

    def _add_sheet(self) -> None:
        from openpyxl.styles import Font
        from openpyxl.utils import get_column_letter

        number = len(self._workbook.worksheets) + 1
        title = "segments" if self.timeline else "recordings"
        self._sheet: Any = self._workbook.create_sheet(title if number == 1 else f"{title} {number}")
        self._sheet.freeze_panes = "A2"
        for at, name in enumerate(self._columns(), 1):
            width = PATH_WIDTH if name in ("path", "message") else min(len(name) + 4, WIDEST)
            self._sheet.column_dimensions[get_column_letter(at)].width = width
        self._length = 0
        self._append(self._columns(), Font(bold=True))

    def _end_sheet(self) -> None:
        from openpyxl.utils import get_column_letter

        self._sheet.auto_filter.ref = f"A1:{get_column_letter(len(self._columns()))}{self._length}"

    def _append(self, values: Iterable[object], font: Any = None) -> None:
        self._sheet.append([self._cell(value, font) if isinstance(value, str) else value for value in values])
        self._length += 1

    def _cell(self, text: str, font: Any) -> Any:
        """Return a cell that is text, whatever it begins with: no formula and no error.

        XML has no control characters, so they are escaped.
        """
        from openpyxl.cell import WriteOnlyCell

        if not text:
            return None
        cell = WriteOnlyCell(self._sheet, printable(text))
        cell.data_type = "s"
        if font:
            cell.font = font
        return cell
