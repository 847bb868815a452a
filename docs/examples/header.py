"""Put the header of onnxruntime's C API, which no wheel holds, into a folder: python header.py FOLDER.

It is the one of this machine's package libonnxruntime-dev or, where that is not installed, of
Debian 13's. A newer library accepts an older header.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from platforms import SUITE, mirror  # noqa: E402

HEADERS = Path("usr/include/onnxruntime")
NAME = "onnxruntime_c_api.h"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"  # of the package debian-archive-keyring


def main() -> None:
    """Copy the header from this machine or from the package."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    installed = "/" / HEADERS / NAME
    if installed.exists():
        shutil.copy(installed, folder)
        return
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(unpacked(Path(name)) / HEADERS / NAME, folder)


def unpacked(place: Path) -> Path:
    """Return a folder with the files of Debian's package. This machine's own lists stay as they are."""
    address = (mirror() or ["http://deb.debian.org/debian"])[0]
    (place / "sources.list").write_text(f"deb [signed-by={KEYS}] {address} {SUITE} main\n")
    (place / "lists" / "partial").mkdir(parents=True)
    settings = {
        "Dir::Etc::SourceList": place / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place,
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    for command in (["update"], ["download", "libonnxruntime-dev"]):
        subprocess.run([*apt, *command], cwd=place, check=True)
    (package,) = place.glob("libonnxruntime-dev_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, place / "files"], check=True)
    return place / "files"


if __name__ == "__main__":
    main()
