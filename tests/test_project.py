"""The Makefile, the folders of tests and the workflows fit together: nothing is left out silently."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

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
