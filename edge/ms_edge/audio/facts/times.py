"""The time at which a recording began, from what containers state about it.

Sources: EBU Tech 3285 (the `bext` chunk of Broadcast Wave files); the module of each container
describes its own clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

BEXT_BYTES = 346  # of a `bext` chunk up to the time reference
LATEST = 2199  # a later year is garbage
EARLIEST_UTC_S = 86_400  # Unix time; a clock that was never set begins in 1904 or 1970
EARLIEST = 1900


def utc(unix_s: float, offset_s: float = 0.0) -> str | None:
    """Return the moment `offset_s` after a Unix time in ISO 8601, with `Z`.

    Returns None for a time that no recording has, such as that of a clock which was never set.
    """
    if not EARLIEST_UTC_S < unix_s < 1e10 or not 0 <= offset_s < 1e9:
        return None
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=round((unix_s + offset_s) * 1000))
    return f"{_text(moment.replace(tzinfo=None))}Z" if moment.year <= LATEST else None


def of_bext(chunk: bytes, sample_rate_hz: int) -> str | None:
    """Return the time that the first BEXT_BYTES of a `bext` chunk state; None if they state none.

    The time is local, without a zone. The origination date and time count. The time reference (samples
    since midnight) only adds the fraction of the second, and only where both agree on the second:
    in many files it is the position on a tape or on the time line of an editor, not the time of day.
    """
    stated = re.fullmatch(rb"(\d{4})[-_: .](\d\d)[-_: .](\d\d)(\d\d)[-_: .](\d\d)[-_: .](\d\d)", chunk[320:338])
    if not stated:
        return None
    try:
        moment = datetime(*map(int, stated.groups()))  # type: ignore[arg-type]
    except ValueError:  # a month 0, for example
        return None
    if not EARLIEST <= moment.year <= LATEST:
        return None
    second, rest = divmod(int.from_bytes(chunk[338:346], "little"), max(1, sample_rate_hz))
    if second == moment.hour * 3600 + moment.minute * 60 + moment.second:
        moment += timedelta(milliseconds=rest * 1000 // sample_rate_hz)
    return _text(moment)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
