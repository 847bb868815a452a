"""The files of deploy/: they parse, grant little, and their commands are valid and do what they say."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

import ms_edge
from ms_edge._version import __version__
from ms_edge.cli.arguments import INTERRUPTED, UNUSABLE, USAGE, parser
from ms_edge.live.actions import CLOSING_S
from ms_edge.live.rules import parse_rule

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Return the sections of a systemd unit: the values of each key, in order."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in (DEPLOY / name).read_text("utf-8").splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = found.setdefault(match[1], {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert re.fullmatch(r"[A-Z]\w+", key), line
            assert equals
            section.setdefault(key, []).append(value)
    return found


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Containerfile, as (name, rest)."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text("utf-8"), flags=re.M).replace("\\\n", "")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line]
    starts = [at for at, (name, _) in enumerate(lines) if name == "FROM"]
    return [[(name, rest) for name, rest in lines[a:b]] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def test_image_is_the_locked_runtime_of_one_user():
    build, runtime = map(dict, stages())
    assert "--require-hashes --requirement /tmp/requirements.lock" in build["RUN"]
    assert "pip" not in runtime["RUN"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", runtime["USER"])  # a number, so that Kubernetes knows it is not root
    (program,) = json.loads(runtime["ENTRYPOINT"])
    assert program in SCRIPTS
    with pytest.raises(SystemExit, match="0"):
        parser().parse_args(json.loads(runtime["CMD"]))


def test_image_build_sees_what_it_copies():
    copied = [source for name, rest in stages()[0] if name == "COPY" for source in rest.split()[:-1]]
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert [line for line in patterns if not line.startswith("#")] == ["*", *(f"!{source}" for source in copied)]
    assert all((ROOT / source).is_file() or source.startswith("dist/") for source in copied)


def test_service_command_is_valid_and_writes_its_own_directory():
    service = unit("ms-edge.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"][0])
    assert Path(program).name in SCRIPTS
    options = parser().parse_args(arguments)
    assert str(Path(options.output).parent) == f"/var/lib/{service['StateDirectory'][0]}"
    assert options.resume
    assert options.paths == service["ReadOnlyPaths"] == unit("ms-edge.service")["Unit"]["ConditionDirectoryNotEmpty"]
    assert service["SuccessExitStatus"] == ["1"]  # some inputs failed


def test_watch_service_command_is_valid_and_goes_on():
    service = unit("ms-edge-watch.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"][0])
    assert Path(program).name in SCRIPTS
    options = parser().parse_args(arguments)
    assert str(Path(options.output).parent) == f"/var/lib/{service['StateDirectory'][0]}"
    assert options.paths == service["ReadOnlyPaths"] == unit("ms-edge-watch.service")["Unit"]["RequiresMountsFor"]
    assert service["SuccessExitStatus"] == ["130"]  # stopped
    assert service["Restart"] == ["on-failure"]


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.service")), ids=lambda path: path.name)
def test_service_may_make_the_calls_from_libsndfile(path):
    """cffi makes the functions that libsndfile calls when they are needed, in memory that is then executed."""
    assert "MemoryDenyWriteExecute" not in unit(path.name)["Service"]


@pytest.mark.parametrize("name", ["ms-edge.service", "ms-edge-watch.service"])
def test_service_has_no_rights_it_does_not_need(name):
    service = unit(name)["Service"]
    yes = {key for key, values in service.items() if values == ["yes"]}
    assert yes >= {"DynamicUser", "NoNewPrivileges", "PrivateDevices", "PrivateNetwork", "PrivateTmp", "ProtectHome"}
    assert yes >= {"ProtectKernelModules", "RestrictNamespaces", "RestrictSUIDSGID"}
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["SystemCallFilter"] == ["@system-service", "~@privileged"]


def test_monitor_command_is_valid():
    service = unit("ms-edge-monitor.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"][0])
    assert Path(program).name in SCRIPTS
    options = parser().parse_args(arguments)
    assert options.command == "monitor"
    assert options.records == f"/var/lib/{service['StateDirectory'][0]}"
    assert [parse_rule(text, ("speech", "music")).text for text in options.alert] == options.alert
    assert service["RestartPreventExitStatus"] == [f"{USAGE} {UNUSABLE}"]
    assert service["SuccessExitStatus"] == [str(INTERRUPTED)]
    assert service["Type"] == ["notify"]
    assert float(service["TimeoutStopSec"][0]) > 2 * CLOSING_S  # of commands and of requests


def test_monitor_has_few_rights():
    service, monitor = (unit(f"{name}.service")["Service"] for name in ("ms-edge", "ms-edge-monitor"))
    yes = {key for key, values in monitor.items() if values == ["yes"]}
    assert {key for key, values in service.items() if values == ["yes"]} - yes == {"PrivateNetwork"}
    for key in ("ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter", "UMask"):
        assert monitor[key] == service[key]
    assert "PACKET" not in monitor["RestrictAddressFamilies"][0]


def test_systemd_accepts_the_units(tmp_path):
    """Let systemd check the units, where it is installed. Everywhere, the tests above read them."""
    for path in sorted(DEPLOY.glob("ms-edge*.*")):
        text = path.read_text("utf-8")
        assert text.startswith(("# ", "[Unit]"))
        (tmp_path / path.name).write_text(text.replace("/opt/ms-edge/bin/ms-edge", "/bin/true"), "utf-8")
        if shutil.which("systemd-analyze"):
            command = ["systemd-analyze", "verify", "--man=no", path.name]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (0, "")


def test_timer_starts_the_service():
    timer = RawConfigParser()
    timer.read_string((DEPLOY / "ms-edge.timer").read_text("utf-8"))
    assert timer["Timer"]["OnCalendar"]
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert (DEPLOY / "ms-edge.service").is_file()  # of the same name


def test_job_grants_no_rights():
    pod = yaml.safe_load((DEPLOY / "job.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user, _, group = dict(stages()[1])["USER"].partition(":")
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["runAsGroup"] == int(group)
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"] == f"ms-edge:{__version__}"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.skipif(os.name != "posix", reason="the job runs on Linux")
def test_job_classifies_every_file_once(samples, tmp_path):
    job = yaml.safe_load((DEPLOY / "job.yaml").read_text("utf-8"))["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert job["completionMode"] == "Indexed"
    (tmp_path / "recordings").mkdir()
    (tmp_path / "results").mkdir()
    for sample in samples:
        shutil.copy(sample, tmp_path / "recordings")
    program = tmp_path / "ms-edge"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ms_edge.cli "$@"\n')
    program.chmod(0o755)
    script = container["args"][0].replace("/recordings", "recordings").replace("/results", "results")
    for index in range(job["completions"]):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run([*container["command"], script], cwd=tmp_path, env=environment, timeout=60, check=False)
        assert done.returncode == 0
    found = [json.loads(line) for part in (tmp_path / "results").iterdir() for line in part.read_text().splitlines()]
    assert sorted(record["path"] for record in found) == [f"recordings/{sample.name}" for sample in samples]
    assert all(record["label"] for record in found)


@pytest.fixture(scope="module")
def platforms():
    """The module of `make test-arm64` and the other platforms."""
    found = importlib.util.spec_from_file_location("platforms", ROOT / "tests" / "platforms.py")
    module = importlib.util.module_from_spec(found)
    sys.modules["platforms"] = module  # for its dataclass
    found.loader.exec_module(module)
    return module


def test_platforms_have_a_make_target_and_a_line_of_the_docs(platforms):
    targets = re.findall(r"^test-(\S+):.*\n\t\S+ tests/platforms\.py \1$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert targets == list(platforms.PLATFORMS)
    page = (ROOT / "docs" / "platforms.md").read_text("utf-8")
    assert all(f"`make test-{name}`" in page for name in targets)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda record: record["scores"].update(speech=record["scores"]["speech"] + 2e-5), "differ by 2.0e-05"),
        (lambda record: record["segments"][0].update(probability=0.0), "the scores differ"),
        (lambda record: record.update(label="uncertain"), "label is uncertain, here"),
        (lambda record: record["segments"][0].update(start_s=0.1), "the segments are"),
    ],
)
def test_platforms_refuse_another_result(platforms, samples, change, refusal):
    expected = [ms_edge.classify(sample).record(True) for sample in samples[:2]]
    found = copy.deepcopy(expected)
    assert platforms.compared(expected, found).startswith("scores within 1e-06")
    change(found[1])
    with pytest.raises(SystemExit, match=refusal):
        platforms.compared(expected, found)


def test_ray_job_runs_a_valid_command_on_one_image():
    (job,) = yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program in SCRIPTS
    options = parser().parse_args(arguments)
    assert (options.command, options.address, options.resume) == ("archive", "auto", True)
    cluster = job["spec"]["rayClusterSpec"]
    (locked,) = re.findall(r"^ray==([\d.]+)", (ROOT / "requirements-dev.lock").read_text("utf-8"), re.M)
    assert cluster["rayVersion"] == locked
    assert f"rayproject/ray:{locked}-" in (ROOT / "docs" / "archive.md").read_text("utf-8")
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0"}  # a full head would be slow to hand out tasks
    for group in (head, *workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == f"ms-edge-ray:{__version__}"
        assert container["resources"]["requests"] == container["resources"]["limits"]
