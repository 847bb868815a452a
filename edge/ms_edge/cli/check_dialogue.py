"""`ms-edge check-dialogue`."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from ms_edge.audio.opening import STDIN
from ms_edge.cli.arguments import FAILED
from ms_edge.cli.options import FileOptions
from ms_edge.errors import AudioError, UsageError
from ms_edge.jobs.classify import DONE
from ms_edge.jobs.classify import run as run_job
from ms_edge.jobs.inputs import Inputs
from ms_edge.jobs.limits import workers_for
from ms_edge.jobs.progress import Progress
from ms_edge.model.session import LEVEL_NAME, Model
from ms_edge.output.writers import clock, json_text, printable
from ms_edge.report.dialogue import Place, loud_music, require_levels
from ms_edge.results import Failure

SCHEMA = "ms-edge-dialogue/1"
HEADER = f"{'START':>11}  {'END':>11}  {'MUSIC':>9}  {'INTERVAL':>20}  PATH"


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(FileOptions):
    """The options of `ms-edge check-dialogue`; the fields are the options' names."""

    max_music: float
    shortest: float
    format: str


class Lines:
    """The places of each recording, on standard output as soon as they are known."""

    def __init__(self, json_lines: bool) -> None:
        self._json_lines = json_lines
        self._header = not json_lines
        self.found = 0  # recordings with such places

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input: nothing is written that could be one."""
        return given

    def write(self, result: object) -> object:
        """Print what was found in an input."""
        if isinstance(result, Failure):
            if self._json_lines:
                print(json_text(result.record() | {"schema": SCHEMA}))
            return result
        record = json.loads(str(result))
        self.found += bool(record["places"])
        if self._json_lines:
            print(json_text(record))
        elif record["places"] and self._header:
            self._header = False
            print(HEADER)
        for place in () if self._json_lines else record["places"]:
            low, high = place["music_to_speech_db_interval"]
            print(
                f"{clock(place['start_s']):>11}  {clock(place['end_s']):>11}  {place['music_to_speech_db']:>+6.1f} dB  "
                f"{low:>+6.1f} to {high:>+6.1f} dB  {printable(record['path'])}"
            )
        sys.stdout.flush()
        return result

    def finish(self) -> None:
        """Do nothing: each line is complete."""

    def abandon(self) -> str:
        """Return "": each line is complete."""
        return ""


def run(options: Options) -> int:
    """Print the places where music is too loud under speech; return 1 if there are any."""
    raw, channel = options.raw_format(), options.chosen_channels()
    if channel == "each":
        raise UsageError("The level is that of one channel or of the mean of all; give --channels mix or a number.")
    options.require_jobs()
    if options.paths.count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    if not 0 <= options.shortest < math.inf:
        raise UsageError(f"--shortest must be a number of seconds, 0 or more, not {options.shortest:g}.")
    inputs = Inputs(options.paths, recursive=options.recursive)
    model = Model.load(options.model or LEVEL_NAME, options.device)
    classifier = options.classifier(model, options.min_duration)
    low, high = require_levels(classifier).range_db
    if not low <= options.max_music < high:
        raise UsageError(
            f"The model's levels lie between {low:g} and {high:g} dB, so --max-music must be from {low:g} to below "
            f"{high:g}, not {options.max_music:g}."
        )
    count = None if any(map(os.path.isdir, options.paths)) else len(options.paths)
    progress = Progress(count, quiet=options.quiet, verbose=options.verbose)
    inputs.tell = progress.tell

    def answer(path: str, on_audio: Callable[[float], None]) -> str | Failure:
        try:
            places = loud_music(
                classifier, path, options.max_music, options.shortest, channel=channel, raw=raw, on_audio=on_audio
            )
        except AudioError as error:
            return Failure(path, error.code, error.message)
        return json.dumps(_record(path, options.max_music, places))

    lines = Lines(options.format == "jsonl")
    jobs = workers_for(options.jobs, inputs, count, progress)
    status = run_job(inputs, answer, lines, progress, jobs=jobs, provider=model.provider)
    progress.tell(f"music over {options.max_music:g} dB under speech in {lines.found} recordings.")
    return FAILED if status == DONE and lines.found else status


def _record(path: str, max_db: float, places: list[Place]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "path": path,
        "max_music_db": max_db,
        "places": [place.record() for place in places],
    }
