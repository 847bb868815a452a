"""Fuzz the readers of `targets` with atheris: `python tests/fuzz/parsers.py --seconds 60`.

atheris (coverage-guided, built on libFuzzer) runs each target in a process of its own, because
libFuzzer ends its process. What it learns is kept in DIR/corpus/TARGET and used by the next run. An
input that breaks a rule, takes longer than LIMIT_S or needs more than LIMIT_MB is saved in
DIR/TARGET-…; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LIMIT_S, LIMIT_MB = 10, 2_048


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Run one target. Does not return: libFuzzer ends this process."""
    import atheris  # has wheels for Linux on x86-64 alone, so only this run needs it

    with atheris.instrument_imports(include=["ms_edge"]):
        import targets
    target = targets.TARGETS[name]
    corpus = folder / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={targets.MAX_INPUT}",
        f"-timeout={LIMIT_S}",
        f"-rss_limit_mb={LIMIT_MB}",
        f"-artifact_prefix={folder}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.read)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="names in `targets.TARGETS` (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="how long to run each target (default: 60)")
    parser.add_argument("--save", type=Path, default=Path("build/fuzz"), metavar="DIR", help="where inputs are kept")
    options = parser.parse_args(arguments)
    if len(options.targets) == 1:
        fuzz(options.targets[0], options.seconds, options.save)
    import targets

    status = 0
    for name in options.targets or targets.TARGETS:
        command = [sys.executable, __file__, name, "--seconds", str(options.seconds), "--save", str(options.save)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        status |= done.returncode
        print(f"{name}: {_summary(done.stderr)}", flush=True)
        if done.returncode:
            print((done.stdout + done.stderr)[-4_000:], flush=True)
    return 1 if status else 0


def _summary(log: str) -> str:
    """Return the number of inputs, the branches they reached, and the slowest, from libFuzzer's log."""
    found = {}
    for line in log.splitlines():
        if line.startswith("stat::"):
            name, _, value = line.removeprefix("stat::").partition(":")
            found[name] = value.strip()
        elif " cov: " in line:
            found["cov"] = line.partition(" cov: ")[2].split()[0]
    return (
        f"{int(found.get('number_of_executed_units', 0)):,} inputs, {found.get('cov', '?')} branches, "
        f"slowest {found.get('slowest_unit_time_sec', '?')} s, {found.get('peak_rss_mb', '?')} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
