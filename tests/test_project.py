"""The Makefile, the folders of tests and the workflows fit together: nothing is left out silently."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_make_test_runs_every_test_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    run = {path for given in project["tool"]["pytest"]["ini_options"]["testpaths"] for path in ROOT.glob(given)}
    files = list((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 60
    assert [path for path in files if path not in run and not run.intersection(path.parents)] == []


def test_make_help_lists_every_target():
    # `make test` calls this test: a make below another one names its folder, unless told not to.
    command = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (targets,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.M)
    assert {line.split()[0] for line in printed.splitlines()} == set(targets.split())


def test_nightly_workflow_runs_what_make_nightly_does():
    (targets,) = re.findall(r"^nightly: ([^#]+) ##", MAKEFILE, re.M)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8"))["jobs"]
    run = []
    for job in jobs.values():
        for command in re.findall(r"^make (.+)$", "\n".join(step.get("run", "") for step in job["steps"]), re.M):
            run += job["strategy"]["matrix"]["target"] if "matrix.target" in command else command.split()
    assert sorted(run) == sorted(targets.split())


@pytest.mark.parametrize(
    ("fetched", "command", "status", "printed"),
    [
        (True, "echo right", 0, "right"),
        (True, "exit 1", 1, ""),
        (True, "echo no mirror; exit 75", 0, "no mirror\nNOT RUN: browser: no mirror"),
        (False, "exit 1", 0, "NOT RUN: browser: E: no mirror"),
    ],
)
def test_gate_names_checks_that_cannot_run(tmp_path, fetched, command, status, printed):
    (function,) = re.findall(r"^with_packages\(\) \{\n.+?^\}\n", (ROOT / ".ci" / "run").read_text("utf-8"), re.M | re.S)
    for name, script in (("dpkg", "exit 1"), ("apt-get", "exit 0" if fetched else "echo E: no mirror >&2; exit 100")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    script = (
        f"set -euo pipefail\nexport PATH={tmp_path}:$PATH\n{function}with_packages browser chromium sh -c '{command}'"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (status, printed, "")
