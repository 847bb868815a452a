"""What a release is made of: its version, its locks and its workflows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ms_edge._version import __version__

ROOT = Path(__file__).parent.parent
LOCKS = sorted(ROOT.glob("requirements*.lock"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_citation_has_the_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__


def test_changelog_has_the_version():
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock_pins_every_package_by_hash(lock):
    text = lock.read_text("utf-8")
    assert "://" not in text
    requirements = re.split(r"\n(?! )", text.strip())
    assert requirements
    for requirement in requirements:
        assert re.match(r"[\w.-]+==\S+( ; .+)?( \\\n    --hash=sha256:[0-9a-f]{64})+$", requirement)


def test_locks_agree():
    pinned = [set(re.findall(r"^\S+==.*?(?= \\)", lock.read_text("utf-8"), re.M)) for lock in LOCKS]
    assert len(pinned) == 3
    assert all(pins <= max(pinned, key=len) for pins in pinned)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_pins_its_actions(workflow):
    text = workflow.read_text("utf-8")
    used = re.findall(r"uses: (.+)", text)
    assert [use for use in used if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_grants_no_permission_by_default(workflow):
    content = yaml.safe_load(workflow.read_text("utf-8"))
    assert content["permissions"] == {}
    granted = {name: job["permissions"] for name, job in content["jobs"].items()}
    publish = granted.pop("publish", {"id-token": "write"})
    assert publish == {"id-token": "write"}
    assert all(permissions == {"contents": "read"} for permissions in granted.values())
