"""Read room responses that were measured in real rooms, from public repositories at a fixed commit.
No training uses them.

* QVbDev/quantumVerb: a hall, a small room, a chamber, a church; CC BY 3.0 and CC BY-SA 3.0, stated
  in Resources/ImpulseResponses/CREDITS.md (the one in open air is NC and is left out).
* rerdavies/ToobAmp: two halls, a studio, a church, all of the OpenAir project; CC BY 4.0, stated in
  impulseFiles/reverb/LICENSE.md.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.quality.testsets import RATE_HZ
from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_train.datasets.origins import RepositoryTree

FILES = {
    ("QVbDev/quantumVerb", "6801e015091c182a70e26471d3b58ee736eac2b9"): [
        f"Resources/ImpulseResponses/{name}.wav"
        for name in ("large_church", "large_hall", "medium_chamber", "medium_hall")
    ],
    ("rerdavies/ToobAmp", "e1c7b03395afc3ba39d60c1b2b59ccb73f802828"): [
        f"impulseFiles/reverb/{name}.wav"
        for name in (
            *("Arthur Sykes Rymer Auditorium", "Genesis 6 Studio Live Room"),
            *("Jack Lyons Hall, University of York", "St. Margaret's Church"),
        )
    ],
}
LONGEST_S, LEAD = 3.0, 16  # samples before the direct sound


def measured_responses(cache: Path, clones: Path | None) -> list[Float32]:
    """Return each response (n,), with energy 1, beginning with the direct sound.

    Repositories are taken from `clones` (see `ms-train data fetch --repositories`), or fetched into
    `cache`. Raises MsEdgeError.
    """
    found = []
    for (name, commit), files in FILES.items():
        with TemporaryDirectory() as folder:
            RepositoryTree(Path(folder), name, commit, cache, clones).unpack(files)
            found += [begun(read_mono(Path(folder) / file, RATE_HZ)) for file in files]
    return found


def begun(response: Float32) -> Float32:
    """Return the response from its loudest sample on, which is the direct sound, with energy 1."""
    response = response[max(0, int(np.abs(response).argmax()) - LEAD) :][: round(LONGEST_S * RATE_HZ)]
    return (response / np.sqrt(np.sum(response**2))).astype(np.float32)
