"""What an actor gives back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/smaps")

SCRIPT = """
from pathlib import Path
import onnxruntime, pyarrow
from ms_edge.archive.memory import give_back

def mb(name):
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) / 1000

block = b"x" * (8 << 20)
del block  # from now on, glibc takes blocks of up to 8 MB from its heap
before = mb("RssFile")
give_back()
print(before - mb("RssFile"))
blocks = [b"x" * size for _ in range(10) for size in (3 << 20, 100_000)]
most = mb("RssAnon")
del blocks[::2]
print(most - mb("RssAnon"))
import pyarrow.compute
assert pyarrow.compute.sum(pyarrow.array([1, 2])).as_py() == 3
"""


def test_code_and_large_blocks_go_back_to_the_system():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    code_mb, blocks_mb = map(float, run.stdout.split())
    assert code_mb > 20
    assert blocks_mb > 28
