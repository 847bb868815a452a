"""Make the pages of recordings, or of the records of an earlier run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ms_edge.audio.opening import STDIN
from ms_edge.audio.raw import RawFormat
from ms_edge.classifier import Classifier, WindowScores
from ms_edge.errors import AudioError, reason
from ms_edge.jobs.inputs import Inputs
from ms_edge.output.destination import FileOutput, is_answer, mirrored
from ms_edge.output.writers import Writer
from ms_edge.report.page import PLAYED, data_address, page, relative_address
from ms_edge.report.sound import Peaks, Sound, eight_bits
from ms_edge.results import Failure

Record = Mapping[str, Any]
MOST_EMBEDDED = 32 << 20  # bytes of the longest recording that a page holds: five minutes of CD audio


class Html(Writer):
    """A document that is written whole."""

    suffix = "html"


def write_page(path: str, text: str, *, replace: bool) -> None:
    """Write a page atomically. Raises OSError if that is impossible.

    Unless `replace` is set, a file that ms-edge did not write stays as it is (FileExistsError).
    """
    if not replace and os.path.lexists(path) and not is_answer(path):
        raise FileExistsError(errno.EEXIST, f"{path} exists and is not a result of ms-edge")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    output = FileOutput(path, Html((), True))
    try:
        output.write(text)
        output.finish()
    except BaseException:
        output.discard()
        raise


def read_again(
    record: Record | None, path: str, classifier: Classifier, raw: RawFormat | str | None, channel: int | None,
    on_audio: Callable[[float], None],
) -> tuple[dict[str, Any], Sound]:
    """Classify a recording; return its record and what the page draws. Raises AudioError."""
    rate = classifier.spec.sample_rate_hz
    peaks = Peaks(rate)
    found, windows = classifier.analyse(path, channel=channel, raw=raw, on_audio=on_audio, on_samples=peaks.add)
    return found.record(timeline=True), _sound(peaks, windows, classifier, found.duration_s)


def _sound(peaks: Peaks, windows: WindowScores, classifier: Classifier, duration_s: float) -> Sound:
    spec = classifier.spec
    centres_s = np.minimum((windows.starts + spec.clip_samples / 2) / spec.sample_rate_hz, duration_s)
    return Sound(peaks.values(), peaks.bin_s, eight_bits(windows.scores), centres_s)
