"""Small CSV tables that people read and edit: read by column name, with errors that name file, line and column."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import SettingsError

WHOLE_BYTES = 8 << 20


def identity(path: str, key: str = "", advice: str = "check the path") -> str:
    """-> what a settings' digest says about a file: its content, not its place; "" for no path.

    Of a file above 8 MB, size, beginning and end stand for the whole. ``key``: the setting that names it.
    Raises SettingsError if it is not there.
    """
    if not path:
        return ""
    if not Path(path).is_file():
        raise SettingsError(f"{key}: found no file {path}, expected the one that it names; {advice}")
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        data = file.read(min(size, WHOLE_BYTES))
        if size > WHOLE_BYTES:
            file.seek(-WHOLE_BYTES, 2)
            data += file.read()
    return f"{size}:{hashlib.sha256(data).hexdigest()}"


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """-> one dict per row, values stripped; further columns are kept.

    Raises SettingsError for a missing file, one that is not UTF-8, a missing column and a row of another width.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"{path}: no such table; expected a CSV file with the columns {', '.join(columns)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                raise SettingsError(f"{path}: found columns {header}, expected {', '.join(columns)}")
            rows = []
            for cells in reader:
                if len(cells) != len(header) and cells:
                    raise SettingsError(
                        f"{path}, line {reader.line_num}: found {len(cells)} fields, expected {len(header)}; "
                        "a field with a comma in it needs quotes"
                    )
                if cells:
                    rows.append(dict(zip(header, (cell.strip() for cell in cells), strict=True)))
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path}: {error}; expected a CSV file in UTF-8") from error


def read_lines(path: Path, key: str, what: str) -> list[str]:
    """-> the lines of a text file, stripped, without the empty ones. ``key``: the setting that names it.

    Raises SettingsError for a missing or empty file and one that is not UTF-8.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{key}: {path}: {error}; expected a file in UTF-8 with one {what} a line") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise SettingsError(f"{key}: {path}: found no line, expected one {what} a line")
    return found


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with Unix line ends."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
