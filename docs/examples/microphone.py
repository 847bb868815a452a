"""Print when speech or music begins and ends at the microphone, until Ctrl-C.

Needs PortAudio's bindings: pip install sounddevice.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import Any

import numpy as np
import sounddevice

from ms_edge import Classifier
from ms_edge.live.events import Event

SAMPLE_RATE_HZ = 48_000
LOST_S = 0.1  # a longer gap between two blocks is audio that was lost, because the computer was too busy


def main() -> None:
    """Record, and print events as they are decided."""
    recorded: queue.SimpleQueue[tuple[np.ndarray, float]] = queue.SimpleQueue()

    def callback(samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        # PortAudio calls this in a thread of its own, wants it back at once, and uses the memory again.
        recorded.put((samples.copy(), time.inputBufferAdcTime))

    session = Classifier().session(SAMPLE_RATE_HZ, source="microphone")
    due_s = None  # when the next sample was to be recorded
    with sounddevice.InputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="int16", callback=callback):
        try:
            while True:
                samples, recorded_s = recorded.get()
                if due_s is not None and recorded_s - due_s > LOST_S:
                    show(session.lose(recorded_s - due_s))
                show(session.push(samples))
                due_s = recorded_s + len(samples) / SAMPLE_RATE_HZ
        except KeyboardInterrupt:
            show(session.close())


def show(events: Iterable[Event]) -> None:
    """Print events."""
    for event in events:
        print(f"{event.utc:%H:%M:%S} {event.time_s:9.3f} {event.kind} {event.label}", flush=True)


if __name__ == "__main__":
    main()
