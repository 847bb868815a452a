"""The model of docs/archive.md divides work as the command does, and says where more CPUs help no more."""

from __future__ import annotations

import pytest

from benchmarks.speed.archive_scaling import (
    CPUS,
    STEPS,
    Archive,
    Constants,
    efficiency,
    most_cpus,
    steps,
    tasks_of,
    total_s,
)
from ms_edge.archive.listing import Recording, tasks

COST = Constants(
    list_file_s=9e-5,
    list_page_s=0.03,
    plan_s=3e-6,
    task_s=3e-3,
    row_s=3e-5,
    actor_s=0.02,
    start_s=8.0,
    open_s=2e-3,
    audio_s=4e-4,
    stored_s=2e-3,
    megabyte_s=1e-3,
)


@pytest.mark.parametrize(
    ("recordings", "duration_s", "actors"), [(20_000, 180, 10), (20_000, 180, 100), (5000, 10, 2), (3000, 3600, 4)]
)
def test_model_counts_the_tasks_of_the_command(recordings, duration_s, actors):
    found = [Recording(f"{number}.mp3", duration_s * 16_000) for number in range(recordings)]
    count, last = tasks_of(Archive(recordings, duration_s), actors)
    made = tasks(enumerate(found), actors)
    assert count == pytest.approx(len(made), rel=0.1)
    assert len(made[-1]) <= last


def test_more_cpus_help_until_the_head_is_full():
    archive = Archive()
    assert efficiency(COST, archive, 1) > 0.99
    most = most_cpus(COST, archive)
    assert efficiency(COST, archive, most) >= 0.5 > efficiency(COST, archive, most + 1)
    assert steps(COST, archive, 1)["work"] == pytest.approx(1000 * steps(COST, archive, 1000)["work"])
    assert total_s(COST, archive, CPUS[-1]) > max(steps(COST, archive, CPUS[-1])[name] for name in STEPS)


def test_actors_share_a_cpu_while_one_waits():
    waiting, shared = Archive(duration_s=10.0), Archive(duration_s=10.0, actors_per_cpu=4)
    assert total_s(COST, waiting, 10) > 3 * total_s(COST, shared, 10)
