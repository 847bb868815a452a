"""Measure how fast ms-edge is on this machine, beside the least that any system must do (the
floor), the same model on other runtimes, and other systems.

    python -m benchmarks.speed -o DIR [--quick] [--cases NAME ...] [--no-peers] [--against old.json]
        [--repositories DIR]

Each system is installed in its own environment below DIR (kept), and must answer before it is
timed. A wrong answer, then or later, is a failure, and the times of that system are not shown.
Systems take turns, on one core, with one thread in each library; figures are medians and quartiles.
Files are in the page cache. *whole*: from the start of the process to its end. *inside*: in a
process that has answered once, from the path to the answer. Writes speed.json, speed.md and plots.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.systems import AbsentError
from benchmarks.speed.bench import CASES, QUICK, Bench, Scale, told
from benchmarks.speed.report import read, write
from benchmarks.speed.timing import BrokenError
from ms_edge.errors import MsEdgeError


def main() -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument(
        "--quick", action="store_true", help="use short files and few repetitions, to see whether everything runs"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="folder of local clones, for TVSM's CRNN")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--model", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--against", type=Path, metavar="OLD.json", help="compare with an earlier speed.json")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    out, args.model = args.out.resolve(), args.model and args.model.resolve()
    try:
        old = read(args.against) if args.against else None
        bench = Bench(out, QUICK if args.quick else Scale(), args)
    except (AbsentError, BrokenError, MsEdgeError, OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"speed: {error}", file=sys.stderr)
        return 1
    failed = False
    for case in args.cases:
        print(f"speed: {case} ...", file=sys.stderr, flush=True)
        try:
            bench.measure(case)
        except Exception as error:
            bench.found["cases"][case] = {"ms-edge": {"failed": told(error)}}
        failed |= any("failed" in found for name, found in bench.found["cases"][case].items() if "ms-edge" in name)
        bench.found["machine"]["load_after"] = os.getloadavg()[0]
        found = bench.without_places()
        found.pop("answers", None)
        (out / "speed.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(write(found, out, old))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
