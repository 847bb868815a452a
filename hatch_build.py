"""Write a CycloneDX SBOM into the wheel, as PEP 770 describes (`.dist-info/sboms/`).

The SBOM lists the packages of `requirements.lock`, with which a release is tested, the model files
in the wheel with their SHA-256, and wavesurfer.js if it is in the wheel. It holds no time and no
random number, so that the same sources give the same wheel.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LOCKED = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+))?")
MODELS = Path("edge/ms_edge/models")
RUN = Path("train/ms_train/models/music-speech")  # the networks that the ONNX files were made from
LARGE_RUN = RUN.with_name("music-speech-large")
START = Path("train/ms_train/recipes/mel_pair.npz")  # weights of YAMNet that the large model's begin with
MIT, BOTH = "MIT", "MIT AND Apache-2.0"  # the second where weights come from YAMNet's
ASSETS = Path("edge/ms_edge/report/assets")  # what `make report-assets` fetches


class SbomHook(BuildHookInterface[Any]):
    """Add the SBOM to each wheel that hatchling builds."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the SBOM into a temporary folder and name it in `build_data`."""
        self.folder = tempfile.TemporaryDirectory()  # must exist until the wheel is written
        path = Path(self.folder.name, "ms-edge.cdx.json")
        sbom = bill(Path(self.root), self.metadata.version)
        path.write_text(json.dumps(sbom, indent=2) + "\n", "utf-8")
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the temporary folder."""
        self.folder.cleanup()


def bill(root: Path, version: str) -> dict[str, Any]:
    """Return the SBOM of that version of ms-edge, of which `root` is the source tree."""
    lines = (root / "requirements.lock").read_text("utf-8").splitlines()
    packages = [package(found) for line in lines if (found := LOCKED.match(line))]
    models = [
        model(path, path.name, BOTH if path.stem == LARGE_RUN.name else MIT)
        for path in sorted((root / MODELS).glob("*.onnx"))
    ]
    models += [model(root / RUN / "model.keras", "music-speech.keras", MIT)]
    models += [model(root / RUN / "level.keras", "music-speech-level.keras", MIT)]
    models += [model(root / LARGE_RUN / "model.keras", "music-speech-large.keras", BOTH)]
    models += [model(root / START, START.name, BOTH)]
    ms_edge = component("library", "ms-edge", version, licenses=[{"expression": BOTH}])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ms_edge},
        "components": [*models, *scripts(root / ASSETS), *packages],
    }


def scripts(assets: Path) -> list[dict[str, Any]]:
    """Return the component of wavesurfer.js; none if it was not fetched."""
    if not (assets / "package.json").exists():
        return []
    package = json.loads((assets / "package.json").read_text("utf-8"))
    name, version, licence = package["name"], package["version"], package["license"]
    purl = f"pkg:npm/{name}@{version}"
    found = component("library", name, version, licenses=[{"license": {"id": licence}}])
    return [{**found, "purl": purl, "bom-ref": purl}]


def component(kind: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    """Return a CycloneDX component that a package index has under this name and version."""
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}


def package(found: re.Match[str]) -> dict[str, Any]:
    """Return the component of one line of the lock, with the environment marker as a property."""
    marker = (found["marker"] or "").strip()
    more = {"properties": [{"name": "ms-edge:marker", "value": marker}]} if marker else {}
    return component("library", found["name"], found["version"], **more)


def model(path: Path, name: str, licence: str) -> dict[str, Any]:
    """Return the component of a model file that is in the wheel, under this name."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "machine-learning-model",
        "bom-ref": name,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": [{"expression": licence}],
    }
