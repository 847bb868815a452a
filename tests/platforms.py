"""Run ms-edge and its tests on another processor or with the newest packages, and compare it with this machine.

A platform is a root directory below build/platforms: packages of Debian 13, extracted by mmdebstrap,
and wheels, extracted by pip. proot runs programs in it, through qemu for another processor. No step
needs rights of the administrator, and Debian's packages come from where this machine's come from.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "platforms"
SUITE, PYTHON = "trixie", "3.13"
BASE = ("base-files", "coreutils", "dash", "libc-bin", "libstdc++6", "python3")
# What armhf has from Debian instead of from wheels; and what needs no processor's wheel.
DEBIAN_RUNTIME = (
    "numpy",
    "soundfile",
    "soxr",
    "onnxruntime",
    "tqdm",
    "av",
    "pytest",
    "hypothesis",
    "matplotlib",
    "pandas",
    "yaml",
)
PURE = ("et_xmlfile", "openpyxl", "pyannote.core", "pyannote.database", "pympi-ling", "srt3", "tgt", "webvtt-py")
AT_MOST = 1e-5  # difference of a score from that on this machine
SHORT = ("test_spec.py", "test_vote.py", "test_windows.py")
FETCH_S = 300
NOT_HERE = 75  # exit status if this machine cannot fetch or run Debian's packages (EX_TEMPFAIL of sysexits.h)
ENOSYS, STATX = 38, 332  # STATX: the number of this system call on x86-64


@dataclass(frozen=True)
class Platform:
    """A processor with its packages.

    `machine` is its name in wheels, "" if all packages are Debian's. `qemu` is the emulator and
    `processors` are those that it emulates; without it, programs run on this machine's processor.
    """

    debian: str
    triple: str
    machine: str = ""
    qemu: str = ""
    processors: tuple[str, ...] = ("",)
    locked: bool = False
    packages: tuple[str, ...] = BASE


PLATFORMS = {
    "arm64": Platform(  # Raspberry Pi 3, 4 and 5
        "arm64", "aarch64-linux-gnu", "aarch64", "qemu-aarch64-static", ("cortex-a53", "cortex-a72", "cortex-a76"), True
    ),
    "armhf": Platform(  # Raspberry Pi 2, and all later ones with a 32-bit system
        "armhf",
        "arm-linux-gnueabihf",
        qemu="qemu-arm-static",
        processors=("cortex-a7", "cortex-a15"),
        packages=(*BASE, "libblas3", "liblapack3", *(f"python3-{name}" for name in DEBIAN_RUNTIME)),
    ),
    "newest": Platform("amd64", "x86_64-linux-gnu", "x86_64"),
}


def main() -> None:
    """Make the root of a platform if necessary, then compare and test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("platform", choices=PLATFORMS)
    parser.add_argument("--short", action="store_true", help="one processor and a few tests, in some minutes")
    parser.add_argument("tests", nargs="*", help="what pytest is to run (default: the tests of the runtime)")
    options = parser.parse_intermixed_args()
    platform, root = PLATFORMS[options.platform], BUILD / options.platform
    needed = ["mmdebstrap", "proot", *filter(None, [platform.qemu])]
    if missing := [name for name in needed if not shutil.which(name)]:
        packages = {"qemu-user-static" if name.startswith("qemu") else name for name in missing}
        sys.exit(f"{', '.join(missing)}: not installed; type: sudo apt-get install {' '.join(sorted(packages))}")
    complete = root.with_suffix(".complete")
    if not complete.exists():
        shutil.rmtree(root, ignore_errors=True)
        make(platform, root)
        complete.touch()
    try_python(platform, root)
    expected = classified([sys.executable], {**os.environ, "PYTHONPATH": str(ROOT / "edge")})
    for processor in platform.processors[: 1 if options.short else None]:
        run(platform, root, processor, ["-m", "ms_edge.cli", "doctor"])
        command, environment = inside(platform, root, processor)
        found = classified(command, environment, platform)
        print(f"{options.platform} {processor}: {len(found)} recordings, {compared(expected, found)}", flush=True)
    tests = [f"tests/edge/{name}" for name in SHORT] if options.short else ["tests/edge"]
    marks = "not slow and not native" + (" and not pty" if platform.qemu else "")
    run(
        platform,
        root,
        platform.processors[-1],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, *(options.tests or tests)],
    )


def make(platform: Platform, root: Path) -> None:
    """Extract the packages of a platform."""
    root.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={platform.debian}"]
    command += ['--aptopt=Acquire::Retries "3"', f"--include={','.join(platform.packages)}"]
    try:
        subprocess.run([*command, SUITE, str(root), *mirror()], check=True, timeout=FETCH_S)
    except (subprocess.SubprocessError, OSError) as error:
        not_here(f"the packages of Debian cannot be fetched ({error})")
    library = root / "usr" / "lib" / platform.triple
    install(platform, root / "opt" / "site")
    if not platform.machine:
        # What scripts of the packages and /sys would give: ctypes finds libsndfile, onnxruntime the cores.
        (library / "libsndfile.so").symlink_to("libsndfile.so.1")
        cores = root / "sys" / "devices" / "system" / "cpu"
        cores.mkdir(parents=True)
        for name in ("possible", "present"):
            (cores / name).write_text("0-1\n")


def mirror() -> list[str]:
    """Return the address from which this machine gets Debian's packages, [] to use mmdebstrap's."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [line.removeprefix("Debian ") for line in listed.splitlines() if line.startswith("Debian ")][:1]


def install(platform: Platform, target: Path) -> None:
    """Extract the wheels of the runtime and of its tests: locked versions, or the newest."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--only-binary", ":all:", "--target", str(target), "--implementation", "cp", "--python-version", PYTHON]
    if platform.machine:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["cpu"]
        wanted += project["dependency-groups"]["edge-test"]
        for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):
            command += ["--platform", f"{tag}_{platform.machine}"]
    else:
        wanted = ["--no-deps", *PURE]
    if platform.locked:
        lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
        constraints = BUILD / "constraints.txt"
        constraints.write_text("\n".join(re.findall(r"^\S+==.*?(?= \\$)", lock, re.M)))
        command += ["--constraint", str(constraints)]
    subprocess.run([*command, *wanted], check=True)


def inside(platform: Platform, root: Path, processor: str) -> tuple[list[str], dict[str, str]]:
    """Return the beginning of a command that runs Python in a root, and its environment."""
    command = ["proot", *(["-q", platform.qemu] if platform.qemu else []), "-r", str(root)]
    # Not /sys: with it and /proc, onnxruntime's processor detection crashes in qemu.
    command += ["-b", "/proc", "-b", "/dev", "-b", f"{ROOT}:/project", "-w", "/project", "/usr/bin/python3"]
    libraries = f"/usr/lib/{platform.triple}"
    environment = {
        "PATH": f"{os.environ['PATH']}:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONPATH": "/project/edge:/opt/site",
        "OPENBLAS_NUM_THREADS": "1",
        "LD_LIBRARY_PATH": f"{libraries}/blas:{libraries}/lapack",
        "QEMU_CPU": processor,
        "PROOT_NO_SECCOMP": "1",
    }
    return command, {name: value for name, value in environment.items() if value}


def try_python(platform: Platform, root: Path) -> None:
    """Start Python in a root, without ms-edge; exit if this machine cannot run it."""
    command, environment = inside(platform, root, platform.processors[0])
    done = subprocess.run([*command, "-c", ""], env=environment, preexec_fn=preparation(platform), check=False)
    if done.returncode:
        not_here(f"{platform.debian}: Python does not run here (status {done.returncode})")


def not_here(reason: str) -> NoReturn:
    """Exit with the status that says that the cause is this machine, and not ms-edge."""
    print(f"{reason}.", file=sys.stderr)
    sys.exit(NOT_HERE)


def run(platform: Platform, root: Path, processor: str, arguments: list[str]) -> None:
    """Run Python in a root; exit if it fails."""
    command, environment = inside(platform, root, processor)
    done = subprocess.run([*command, *arguments], env=environment, preexec_fn=preparation(platform), check=False)
    if done.returncode:
        sys.exit(f"{platform.debian} {processor}: {' '.join(arguments)} ended with status {done.returncode}.")


def preparation(platform: Platform) -> Any:
    """Return what to do before a program of the platform starts.

    32-bit programs use the system call statx, whose paths proot does not translate. Without it,
    qemu uses an older one.
    """
    return _refuse_statx if platform.debian == "armhf" else None


def _refuse_statx() -> None:
    """Let statx fail in this process and its children, by a seccomp filter (BPF)."""
    filters = [(0x20, 0, 0, 0), (0x15, 0, 1, STATX), (0x06, 0, 0, 0x00050000 | ENOSYS), (0x06, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in filters))
    header = struct.pack("HxxxxxxP", len(filters), ctypes.addressof(program))
    library = ctypes.CDLL(None)
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.c_char_p(header), 0, 0)):  # no new rights; the filter
        if library.prctl(*arguments):
            raise OSError("the system refuses a seccomp filter")


def classified(
    python: list[str], environment: dict[str, str], platform: Platform | None = None
) -> list[dict[str, Any]]:
    """Return the records of the sample recordings."""
    paths = sorted(f"tests/data/{path.name}" for path in (ROOT / "tests" / "data").glob("*.wav"))
    done = subprocess.run(
        [*python, "-m", "ms_edge.cli", "classify", "-q", "-j", "1", "--timeline", "--format", "jsonl", *paths],
        cwd=ROOT,
        env=environment,
        preexec_fn=preparation(platform) if platform else None,
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def compared(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """Return the greatest difference of a score as a clause; exit if there is a greater one than allowed."""
    greatest = 0.0
    for one, other in zip(expected, found, strict=True):
        for key in ("path", "label", "duration_s", "seconds", "model"):
            if one[key] != other[key]:
                sys.exit(f"{one['path']}: {key} is {other[key]}, here {one[key]}.")
        spans = [
            [(part["label"], part["start_s"], part["end_s"]) for part in record["segments"]] for record in (one, other)
        ]
        if spans[0] != spans[1]:
            sys.exit(f"{one['path']}: the segments are {spans[1]}, here {spans[0]}.")
        pairs = [(one["scores"][label], other["scores"][label]) for label in one["scores"]]
        pairs += [(a["probability"], b["probability"]) for a, b in zip(one["segments"], other["segments"], strict=True)]
        greatest = max(greatest, *(abs(a - b) for a, b in pairs))
    if greatest > AT_MOST:
        sys.exit(f"the scores differ by {greatest:.1e} from those of this machine; at most {AT_MOST:.0e} is allowed.")
    return f"scores within {max(greatest, 1e-6):.0e} of this machine's"  # records have six digits


if __name__ == "__main__":
    main()
