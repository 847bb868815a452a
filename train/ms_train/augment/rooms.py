"""Simulated rooms from booth to church: several near and far responses of each, made from seeds and
kept on disk.

Image sources and ray tracing are by pyroomacoustics (Scheibler et al. 2018). `train` and `val` are
shoebox rooms from different seeds. `test` also has L-shaped and oblique ground plans. It is for the
final test of a model, and no decision is based on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.errors import UsageError
from ms_train.errors import RunError
from ms_train.files import atomic_write
from ms_train.signals import Rng

ROOMS = {"train": 100, "val": 32, "test": 48}
PLACES = 4  # positions of the microphone in each room
SEEDS = {"train": 11, "val": 22, "test": 33}
# Each kind of room: length, width and height in m, and the intended reverberation time in s.
KINDS = {
    "booth": ((1.0, 2.5), (0.9, 2.0), (2.0, 2.4), (0.15, 0.3)),
    "room": ((2.8, 7.0), (2.5, 5.0), (2.3, 3.2), (0.25, 0.9)),
    "classroom": ((6.0, 14.0), (5.0, 10.0), (2.6, 4.5), (0.4, 1.4)),
    "hall": ((14.0, 35.0), (10.0, 22.0), (5.0, 10.0), (0.8, 2.2)),
    "church": ((20.0, 50.0), (10.0, 25.0), (8.0, 20.0), (1.5, 3.0)),
}
KIND_CHANCES = (0.15, 0.35, 0.25, 0.15, 0.1)
DIRECT_DB = (-10.0, 12.0)  # intended direct to reverberant energy of a place
LONGEST_S = 3.0
SOUND_M_S = 343.0
ORDER, RAYS, RECEIVER_M = 3, 3000, 0.5
BANDS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000)
DIRECT_S = 0.0025  # time after the arrival of the direct sound that counts as direct
LEAD = 16  # samples before the arrival, in which the direct sound rises


@dataclass(frozen=True)
class Room:
    """The responses of one room by place, each (n,) float32 with an energy of 1, beginning with the
    direct sound.

    `rt60_s` is the measured reverberation time (Schroeder, from -5 to -25 dB). `direct_db` is the
    direct to reverberant energy of each place.
    """

    kind: str
    rt60_s: float
    direct_db: tuple[float, ...]
    responses: tuple[Float32, ...]


def load(split: str, sample_rate_hz: int, folder: Path | None) -> tuple[Room, ...]:
    """Return the rooms of a split at a sample rate, from `folder`; if they are missing, simulate
    and store them (minutes).

    Raises UsageError for an unknown split, and RunError(`no-rooms`) if pyroomacoustics is not
    installed.
    """
    if split not in ROOMS:
        raise UsageError(f"There are no rooms for {split!r}; there are {', '.join(ROOMS)}.")
    path = folder / f"rooms-{split}-{digest(split, sample_rate_hz)[:16]}.npz" if folder else None
    if path:
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return _read(path)
    seeds = [(SEEDS[split], number) for number in range(ROOMS[split])]
    bar = tqdm(seeds, desc=f"simulating rooms ({split})", unit="room", file=sys.stderr, disable=None)
    made = tuple(simulate(split, seed, sample_rate_hz) for seed in bar)
    if path:
        with contextlib.suppress(OSError):  # the next training makes them again
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                _write(made, partial)
    return made


def digest(split: str, sample_rate_hz: int) -> str:
    """Return the SHA-256 of everything that decides the rooms of a split."""
    facts = f"{split} {ROOMS[split]} {sample_rate_hz} {importlib.metadata.version('pyroomacoustics')}\n"
    return hashlib.sha256(facts.encode() + Path(__file__).read_bytes()).hexdigest()


def simulate(split: str, seed: Sequence[int], sample_rate_hz: int) -> Room:
    """Simulate a room from its seed.

    Raises RunError(`no-rooms`) if pyroomacoustics is not installed.
    """
    try:
        import pyroomacoustics as pra
    except ImportError:
        raise RunError(
            "no-rooms", "Rooms are simulated by pyroomacoustics, which is not installed: pip install pyroomacoustics."
        ) from None
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(KINDS), p=KIND_CHANCES))
    *sizes, times = KINDS[kind]
    size = np.array([rng.uniform(*limits) for limits in sizes])
    rt60_s = float(np.exp(rng.uniform(*np.log(times))))
    shape = rng.choice(["L", "oblique"]) if split == "test" and rng.random() < 2 / 3 else "shoebox"
    corners = _plan(shape, size, rng)
    area = _area(corners)
    around = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=0).sum()
    volume, surface = area * size[2], 2 * area + around * size[2]
    # Eyring's formula; the absorption of walls depends on frequency.
    absorption = 1 - np.exp(-0.161 * volume / (surface * rt60_s))
    tilt = rng.uniform(-0.15, 0.4)
    coefficients = np.clip(absorption * (np.array(BANDS_HZ) / 1000.0) ** tilt, 0.01, 0.98)
    pra.constants.set("num_threads", 1)
    pra.random.seed(int(rng.integers(1 << 31)))
    material = pra.Material(
        {"coeffs": list(coefficients), "center_freqs": list(BANDS_HZ), "description": kind},
        float(rng.uniform(0.05, 0.5)),
    )
    common = {"fs": sample_rate_hz, "max_order": ORDER, "ray_tracing": True, "air_absorption": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyroomacoustics warns about the number of rays
        if shape == "shoebox":
            room = pra.ShoeBox(list(size), materials=material, **common)
        else:
            room = pra.Room.from_corners(corners, materials=material, **common)
            room.extrude(size[2], materials=material)
    reach_m = 0.057 * np.sqrt(volume / rt60_s)  # the distance at which direct and reverberant sound are equally strong
    radius = min(RECEIVER_M, 0.2 * float(size.min()))
    room.set_ray_tracing(n_rays=RAYS, receiver_radius=radius, time_thres=LONGEST_S + 0.2)
    source = _place(room, size, rng)
    room.add_source(source)
    places = [_near(room, source, reach_m * 10 ** (-db / 20), size, rng) for db in rng.uniform(*DIRECT_DB, PLACES)]
    room.add_microphone_array(np.array(places).T)
    room.compute_rir()
    found = [
        _trimmed(np.asarray(each[0]), float(np.linalg.norm(place - source)), sample_rate_hz)
        for each, place in zip(room.rir, places, strict=True)
    ]
    measured = float(np.median([decay_s(response, sample_rate_hz) for response, _ in found]))
    return Room(kind, measured, tuple(db for _, db in found), tuple(response for response, _ in found))


def _plan(shape: str, size: NDArray[np.float64], rng: Rng) -> NDArray[np.float64]:
    """Return the corners (2, n) of a ground plan within `size`, anticlockwise."""
    x, y = size[:2]
    if shape == "L":
        inner_x, inner_y = rng.uniform(0.35, 0.65, 2) * (x, y)
        return np.array([(0, 0), (x, 0), (x, inner_y), (inner_x, inner_y), (inner_x, y), (0, y)]).T
    if shape == "oblique":
        a, b = rng.uniform(0.0, 0.3, 2) * x
        return np.array([(0, 0), (x, 0), (x - a, y), (b, y)]).T
    return np.array([(0, 0), (x, 0), (x, y), (0, y)]).T


def _area(corners: NDArray[np.float64]) -> float:
    x, y = corners
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _place(room: Any, size: NDArray[np.float64], rng: Rng) -> NDArray[np.float64]:
    for _ in range(200):
        place = rng.uniform(0.1, 0.9, 3) * size
        if room.is_inside(place):
            return place
    raise RuntimeError("a room without inside")


def _near(
    room: Any, source: NDArray[np.float64], distance_m: float, size: NDArray[np.float64], rng: Rng
) -> NDArray[np.float64]:
    """Return a place in the room at about this distance from the source: the closest of a hundred
    tries.
    """
    wanted, best, error = max(0.15, distance_m), None, np.inf
    for _ in range(100):
        way = rng.standard_normal(3)
        place = source + way / np.linalg.norm(way) * wanted * rng.uniform(0.8, 1.25)
        place = np.clip(place, 0.04 * size, 0.96 * size)
        off = abs(np.log(np.linalg.norm(place - source) / wanted + 1e-9))
        if off < error and room.is_inside(place):
            best, error = place, off
        if error < 0.25:
            break
    return _place(room, size, rng) if best is None else best


def _trimmed(response: NDArray[np.float64], distance_m: float, rate_hz: int) -> tuple[Float32, float]:
    """Cut a response from its direct sound to a decay of 60 dB; return it with energy 1, and its
    direct to reverberant dB.
    """
    arrival = round(distance_m / SOUND_M_S * rate_hz) + 40  # half the length of its fractional delay filters
    direct = arrival - LEAD + int(np.abs(response[max(0, arrival - LEAD) : arrival + LEAD]).argmax())
    response = response[max(0, direct - LEAD) :][: round(LONGEST_S * rate_hz)]
    energy = response**2
    split = LEAD + round(DIRECT_S * rate_hz)
    direct_db = 10 * np.log10(energy[:split].sum() / (energy[split:].sum() + 1e-20))
    left = np.cumsum(energy[::-1])[::-1] / energy.sum()
    response = response[: max(split, int(np.searchsorted(-left, -1e-6)))]
    fade = min(len(response) // 2, rate_hz // 100)
    response[-fade:] *= np.linspace(1, 0, fade)
    return (response / np.sqrt(np.sum(response**2))).astype(np.float32), float(direct_db)


def decay_s(response: Float32, rate_hz: int) -> float:
    """Return the reverberation time by backward integration (Schroeder 1965): three times the time
    from -5 to -25 dB.
    """
    energy = response[LEAD + round(DIRECT_S * rate_hz) :].astype(float) ** 2
    left = 10 * np.log10(np.cumsum(energy[::-1])[::-1] / energy.sum() + 1e-12)
    return 3 * float(np.searchsorted(-left, 25) - np.searchsorted(-left, 5)) / rate_hz


def _write(rooms: Sequence[Room], path: Path) -> None:
    responses = [response for room in rooms for response in room.responses]
    np.savez(
        path,
        kinds=np.array([room.kind for room in rooms]),
        rt60_s=np.array([room.rt60_s for room in rooms]),
        direct_db=np.array([room.direct_db for room in rooms]),
        ends=np.cumsum([len(response) for response in responses]),
        samples=np.concatenate(responses),
    )


def _read(path: Path) -> tuple[Room, ...]:
    with np.load(path, allow_pickle=False) as file:
        responses = np.split(file["samples"], file["ends"][:-1])
        facts = zip(file["kinds"].tolist(), file["rt60_s"].tolist(), file["direct_db"].tolist(), strict=True)
        return tuple(
            Room(kind, rt60_s, tuple(direct_db), tuple(responses[PLACES * at : PLACES * at + PLACES]))
            for at, (kind, rt60_s, direct_db) in enumerate(facts)
        )
