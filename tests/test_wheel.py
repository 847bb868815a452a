"""The wheel, installed with [cpu] into an empty environment: it works there, and brings nothing it should not."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from ms_train.training.bundled import FOLDER, LARGE_FOLDER

pytestmark = pytest.mark.slow  # builds and installs it

ROOT = Path(__file__).parent.parent
WHEELHOUSE = ROOT / "build" / "wheelhouse"
# Pip reads no settings file. Where there is no network namespace, every connection fails.
NO_INDEX = {
    "PIP_CONFIG_FILE": os.devnull,
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}


def pip(python: str | Path, *arguments: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True, cwd=ROOT)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def offline() -> list[str | Path]:
    """The beginning of a command that runs in a network namespace without network, or [] if the kernel allows none."""
    command: list[str | Path] = ["unshare", "--map-root-user", "--net"]
    if sys.platform != "linux" or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        return []
    return command


@pytest.fixture(scope="session")
def installed(wheel, offline, tmp_path_factory) -> Path:
    """The folder of programs of an environment with the wheel and its [cpu] extra.

    Pip installs it without network, from the wheels of `make wheelhouse` alone.
    """
    assert list(WHEELHOUSE.glob("onnxruntime-*.whl")), f"{WHEELHOUSE} is empty; `make wheelhouse` fills it"
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "--quiet", "--disable-pip-version-check"]
    install = ["install", "--no-index", "--find-links", WHEELHOUSE, f"{wheel}[cpu]"]
    subprocess.run([*offline, *pip, *install], check=True, env=clean() | NO_INDEX)
    return programs


def test_wheel_holds_model_and_types_without_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    models = {f"ms_edge/models/music-speech{name}.onnx" for name in ("", "-large", "-waveform", "-level", "-0.1")}
    for folder in (FOLDER, LARGE_FOLDER):
        models |= {f"ms_train/models/{folder.name}/{path.name}" for path in folder.iterdir()}
    assert models | {"ms_edge/py.typed", "ms_train/datasets/open_corpus.tsv.xz"} <= names
    sources = {
        path.relative_to(ROOT / part).as_posix()
        for part in ("edge", "export", "train")
        for path in (ROOT / part).rglob("*.py")
    }
    assert sources <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks")) or ".parity." in name]


def test_wheel_has_the_version_of_the_version_file(wheel):
    version = runpy.run_path(str(ROOT / "edge" / "ms_edge" / "_version.py"))["__version__"]
    metadata = zipfile.ZipFile(wheel).read(f"ms_edge-{version}.dist-info/METADATA").decode()
    assert f"\nVersion: {version}\n" in metadata


def test_wheel_holds_an_sbom_of_its_contents(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if ".dist-info/sboms/" in name]
    sbom = json.loads(archive.read(name))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert f"ms_edge-{sbom['metadata']['component']['version']}.dist-info/" in name
    components = sbom["components"]
    models = [path for path in archive.namelist() if path.endswith((".onnx", ".keras", "mel_pair.npz"))]
    digests = {hashlib.sha256(archive.read(path)).hexdigest() for path in models}
    assert len(models) == 9
    assert {part["hashes"][0]["content"] for part in components if "hashes" in part} == digests
    licences = {part["name"]: part["licenses"] for part in components if "hashes" in part}
    both = [{"expression": "MIT AND Apache-2.0"}]
    assert {name for name, found in licences.items() if found == both} == {
        "music-speech-large.onnx", "music-speech-large.keras", "mel_pair.npz"
    }  # fmt: skip
    assert sbom["metadata"]["component"]["licenses"] == both
    assert (
        "\nLicense-Expression: MIT AND Apache-2.0\n" in archive.read(name.partition("sboms/")[0] + "METADATA").decode()
    )
    named = archive.read(name.partition("sboms/")[0] + "licenses/NOTICE").decode().split()
    assert {path for path in archive.namelist() if "large" in path and path.endswith((".onnx", ".keras"))} <= set(named)
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    packages = [
        f"{part['name']}=={part['version']}" for part in components if part.get("purl", "").startswith("pkg:pypi/")
    ]
    assert packages == [line.split()[0] for line in lock.splitlines() if "==" in line]


def test_source_distribution_builds_the_same_wheel(wheel, tmp_path):
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", tmp_path]
    subprocess.run([*hatchling, "--target", "sdist"], check=True, cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    tree = tmp_path / archive.name.removesuffix(".tar.gz")
    subprocess.run([*hatchling, "--target", "wheel"], check=True, cwd=tree)
    (built,) = tmp_path.glob("*.whl")
    assert built.read_bytes() == wheel.read_bytes()


def test_installed_command_classifies(installed, samples, tmp_path):
    run = subprocess.run(
        [installed / "ms-edge", "classify", "--format", "jsonl", *samples],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=clean(),
    )
    labels = [json.loads(line)["label"] for line in run.stdout.splitlines()]
    assert labels == [path.name.partition("_")[0] for path in samples]
    assert run.stderr == ""


@pytest.mark.parametrize(
    "module",
    ["tensorflow", "keras", "onnx", "tf2onnx", "scipy", "matplotlib", "tensorflow_datasets", "pandas", "pytest"],
)
def test_nothing_heavy_is_there(installed, tmp_path, module):
    run = subprocess.run(
        [installed / "python", "-c", f"import {module}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean(),
        check=False,
    )
    assert f"No module named '{module}'" in run.stderr


def test_it_installs_and_works_without_network(installed, offline, samples):
    """The fixture `installed` already installs without network."""
    command, env = [*offline, installed / "python", "-m", "ms_edge.cli"], clean() | NO_INDEX
    run = subprocess.run([*command, "classify", samples[0]], capture_output=True, text=True, check=True, env=env)
    assert run.stdout.splitlines()[1].startswith("music")
    subprocess.run([*command, "doctor"], capture_output=True, check=True, env=env)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_wheelhouse_is_complete_for_x86_and_arm(wheel, tmp_path, machine):
    platforms = [f"--platform=manylinux{version}_{machine}" for version in ("_2_28", "_2_27", "_2_17", "2014")]
    version = f"--python-version={sys.version_info[0]}.{sys.version_info[1]}"
    resolve = ["--dry-run", "--ignore-installed", "--only-binary=:all:", version, *platforms, f"--target={tmp_path}"]
    pip(sys.executable, "install", "--no-index", "--find-links", WHEELHOUSE, *resolve, f"{wheel}[cpu]")


def test_runtime_imports_neither_of_the_other_packages(installed, tmp_path):
    """Not even where they are installed, as they are in this wheel."""
    code = (
        "import sys, pkgutil, importlib, ms_edge\n"
        "for module in pkgutil.walk_packages(ms_edge.__path__, 'ms_edge.'):\n"
        "    if module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as error: assert error.name in ('pyarrow', 'ray'), module.name\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('ms_train', 'ms_export')]"
    )
    subprocess.run([installed / "python", "-c", code], cwd=tmp_path, check=True, env=clean())


@pytest.mark.parametrize(("command", "extra"), [("ms-train", "'.[train]'"), ("ms-export", "'.[cpu,export]'")])
def test_commands_without_their_extra_say_so(installed, tmp_path, command, extra):
    arguments = {
        "ms-train": ["fit", "--recipe", "mel_dscnn", "--data", "folder:x", "--out", "y"],
        "ms-export": ["convert", "x", "-o", "y"],
    }[command]
    run = subprocess.run(
        [installed / command, *arguments], cwd=tmp_path, capture_output=True, text=True, env=clean(), check=False
    )
    assert run.returncode == 3
    assert extra in run.stderr
    assert len(run.stderr.splitlines()) == 1
    subprocess.run([installed / command, "--help"], cwd=tmp_path, capture_output=True, env=clean(), check=True)


def test_one_extra_brings_one_onnxruntime():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert set(extras) == {"cpu", "gpu", "media", "report", "live", "ray", "train", "export"}
    assert [name for name, needs in extras.items() if any(need.startswith("onnxruntime") for need in needs)] == [
        "cpu",
        "gpu",
    ]
    assert project["tool"]["uv"]["conflicts"] == [[{"extra": "cpu"}, {"extra": "gpu"}]]


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
