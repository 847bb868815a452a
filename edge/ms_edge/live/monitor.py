"""Follow live sources for as long as they run: connect, notice what is lost, connect again.

Two clocks meet here. Audio has its own: stream time is the number of samples that have arrived or
were lost, over the sample rate. The other one is that of this machine. They are compared when a
connection begins. What is missing then was lost, and is counted, so that the time of every event
stays true however often the source fails. While a connection lasts, the clock of its transmitter and
that of this machine differ by some millionths; the time of events follows that of this machine.
"""

from __future__ import annotations

import math
import random
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ms_edge.audio.source import Channels
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError
from ms_edge.live.events import Event, Position
from ms_edge.live.pipes import PACKET_S, PIPE_SHARE
from ms_edge.live.session import DELAY_S, Session
from ms_edge.live.sources import Connection, Item, Source
from ms_edge.output.writers import duration

DONE, FAILED, STALLED, LOST = 0, 1, 4, 5  # exit statuses
NO_PROTOCOL = "Protocol not found"  # what FFmpeg says of an address if it was built without its protocol
# Waking up costs processor time: when a tick is due, it waits so long for a read.
TICK_S, TICK_WAIT_S = 1.0, 0.4
# Between two reads: recorders write every few ms, and each read costs processor time. The pipe holds more.
REST_S, REST_MOST_S = 0.1, 2.0
STALL_S = 10.0
CONNECT_S = 30.0  # how long a connection may take to give its first audio, unless a stall may take longer
# Servers begin with audio that they have stored. The beginning of a connection is known when no audio
# has come faster than real time for SETTLE_S seconds; at the latest after SETTLE_MOST_S seconds, or
# after so many seconds of audio.
SETTLE_S, SETTLE_MOST_S, SETTLE_AUDIO_S = 1.0, 5.0, 60.0
SETTLE_NOISE_S = 0.05
SETTLE_SAMPLES = 1 << 22
TOGETHER_S = 1.0  # audio that arrives within this time may have been sent at once
EARLY_S = 0.5  # samples may seem to arrive so much before they were sent: times are not exact
LATE_S = 60.0  # audio that arrives later than this after its time has no use for a monitor
# Seconds to wait before connecting again: doubled each time, and shortened at random by up to a half,
# so that many monitors do not ask a server that comes back at the same moment.
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
STEADY_S = 10.0  # a connection that has lasted so long was a good one: the next wait is short again
SAY_AGAIN_S = 3600.0  # a failure that repeats itself is logged this often
# Quartz clocks are more exact than this. Events follow the clock of this machine at most so fast.
SLEW, SLEW_S = 100e-6, 60.0
CLOCK_SET_S = 1.0  # a clock that jumps further than this was set
CLOCK_NOISE_S = 0.01
REGAINED = {"lost": "reconnected", "stall": "resumed"}


class Consumer(Protocol):
    """Whatever uses events: it prints, records or acts."""

    def take(self, event: Event) -> None:
        """Use one event."""

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Note the time, about once a second, and how far each source is."""

    def close(self) -> None:
        """Finish, because no more events come."""


class Clock:
    """The time of this machine, as seconds that are never set and as UTC, which may be."""

    def elapsed(self) -> float:
        """Return seconds that go on while the machine sleeps, and that nobody sets."""
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot is None else time.clock_gettime(boot)

    def utc(self) -> datetime:
        """Return the present time."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class Settings:
    """How sources are followed.

    A source stalls if no audio has come for `stall_s` seconds. It is given up after `give_up_s`
    seconds without audio, never if that is None. `channels` and `delay_s` are those of a session.
    """

    stall_s: float = STALL_S
    give_up_s: float | None = None
    channels: Channels = None
    delay_s: float = DELAY_S


class Feed:
    """One source: its connection, its session, and where both are in time.

    `check` must be called about once a second, and `ready` when `descriptor` can be read, best from
    `read_at` on.
    `status` is the exit status, None while the source is followed.
    """

    def __init__(
        self,
        source: Source,
        classifier: Classifier,
        settings: Settings,
        emit: Callable[[Event], None],
        log: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.name = source.name
        self.status: int | None = None
        self.read_at = 0.0  # elapsed time before which there is no use in reading
        self._source, self._classifier, self._settings = source, classifier, settings
        self._emit, self._log, self._clock = emit, log, clock
        self._connection: Connection | None = None
        self._session: Session | None = None
        now = clock.elapsed()
        self._offset_s = clock.utc().timestamp() - now  # UTC is elapsed time and this
        self._anchor = now  # elapsed time at stream time 0
        self._connect_at = now
        self._failures = 0  # connections in a row that did not last
        self._trouble: str | None = None  # kind of the event that says why there is no audio
        self._blame = LOST  # the exit status if the source is given up now
        self._live = False  # the source has been a broadcast
        self._skip = 0  # frames that are still to be left out, because they came before
        self._refund = 0  # frames that were counted as lost before this connection, and may not have been
        self._lost = self._gaps = self._regained = 0  # frames, and how often
        self._last_audio = now
        self._arrived_s = 0.0  # audio that has arrived, on all connections together
        self._warned = 0
        self._said, self._said_at = "", -math.inf
        self._begin(now)
        self._least_late_s, self._slew_at = math.inf, now + SLEW_S

    def _begin(self, now: float) -> None:
        """Begin to compare audio with the clock: at a connection, and after a stall."""
        self._held: list[Item] | None = []  # audio of the first moments; None afterwards
        self._began = now
        self._arrived: float | None = None  # when audio arrived last
        self._first_sample = math.inf  # when the first sample was sent, as far as is known
        self._settled_at = math.inf  # when that will be known well enough
        self._burst_at, self._burst_s = now, 0.0  # audio that arrived together

    @property
    def descriptor(self) -> int | None:
        """What to read from; None while there is no connection."""
        return self._connection.descriptor if self._connection else None

    @property
    def connect_at(self) -> float:
        """The elapsed time at which to connect; infinite while there is a connection, and at the end."""
        return self._connect_at if self._connection is None and self.status is None else math.inf

    @property
    def progress(self) -> Position:
        """How far the source is."""
        return Position(self._session.decided_s if self._session else 0.0, self._arrived_s)

    def _rest_s(self, now: float) -> float:
        """Return for how many seconds reading would decide nothing.

        It is 0 if audio comes faster than real time, as from a file, and never so long that the pipe
        fills: what sends the audio would wait, and a sound card would lose some.
        """
        assert self._connection
        if self._held is not None:
            late_s, wanted_s = now - self._began - self._held_s(), 0.0
        else:
            assert self._session
            late_s, wanted_s = self._late_s(now), self._session.wanted_s + PACKET_S
        if late_s < -2 * EARLY_S:
            return 0.0
        return min(max(REST_S, wanted_s), REST_MOST_S, PIPE_SHARE * self._connection.pipe_s)

    def _late_s(self, now: float) -> float:
        """Return how much later the last sample has arrived than its time says, in seconds."""
        assert self._session
        return now - self._anchor - self._session.received_s + self._skip / self._session.sample_rate_hz

    def ready(self) -> None:
        """Read what has arrived."""
        assert self._connection
        items = self._connection.read()
        now = self._clock.elapsed()
        if items is None:
            self._over(now)
        elif (lacking := self._lacking(items)) is not None:
            self._fail(now, lacking)
        elif items:
            self._receive(items, now)
        if self._connection:
            self.read_at = now + self._rest_s(now)

    def check(self) -> None:
        """Do what is due: connect, notice a stall, give up, follow the clock."""
        now = self._clock.elapsed()
        self._follow_clock(now)
        if self.status is not None:
            return
        if self._settings.give_up_s is not None and now - self._last_audio >= self._settings.give_up_s:
            silent = self._connection is not None and now - self._began >= self._settings.stall_s
            why = f"given up after {duration(now - self._last_audio)} without audio"
            self._end(STALLED if silent else self._blame, why)
        elif self._connection is None:
            if now >= self._connect_at:
                self._connect(now)
        elif self._held and now >= self._settled_at:
            self._settle()
        elif self._trouble != "stall" or self._source.regained:
            self._look_for_stall(now)

    def _connect(self, now: float) -> None:
        self._begin(now)
        try:
            self._connection = self._source.connect(self._session.sample_rate_hz if self._session else None)
        except AudioError as error:
            self._fail(now, error.message.removeprefix(f"{self.name}: ").rstrip("."))

    def _lacking(self, items: list[Item]) -> str | None:
        """Return what is wrong if audio does not have the channel that was chosen."""
        chosen = self._settings.channels
        for item in items:
            if not isinstance(item, int) and isinstance(chosen, int) and item.shape[1] < chosen:
                return f"it has no channel {chosen}, but {item.shape[1]}"
        return None

    def _receive(self, items: list[Item], now: float) -> None:
        """Take in audio that has just arrived."""
        assert self._connection
        if self._trouble == "stall" and self._held is None:  # of a source that cannot be connected again
            self._begin(now)
        if self._arrived is None:
            self._began = now
        self._arrived = self._last_audio = now
        frames = sum(len(item) for item in items if not isinstance(item, int))
        if now - self._burst_at > TOGETHER_S:
            self._burst_at, self._burst_s = now, 0.0
        self._burst_s += frames / self._connection.rate_hz
        self._arrived_s += frames / self._connection.rate_hz
        if self._held is None:
            for item in items:
                self._push(item)
            self._least_late_s = min(self._least_late_s, self._correct_early(now))
            return
        self._held += items
        held = sum(item if isinstance(item, int) else item.size for item in self._held)
        held_s = self._held_s()
        if now - held_s < self._first_sample - SETTLE_NOISE_S:
            self._settled_at = min(now + SETTLE_S, self._began + SETTLE_MOST_S)
        self._first_sample = min(self._first_sample, now - held_s)
        if now >= self._settled_at or held_s >= SETTLE_AUDIO_S or held >= SETTLE_SAMPLES:
            self._settle()

    def _correct_early(self, now: float) -> float:
        """Return how late the last sample is, in seconds.

        No sample can arrive before it was sent. If it seems so, the first samples of the connection
        were late, and more was counted as lost than was: as much is left out now. The rest moves the
        time of the source.
        """
        assert self._session
        assert self._connection
        rate = self._session.sample_rate_hz
        late_s = self._late_s(now)
        if late_s >= -EARLY_S or self._connection.finite:
            return late_s
        early = round(-late_s * rate)
        left_out = min(early, self._refund)
        self._refund -= left_out
        self._skip += left_out
        self._anchor -= (early - left_out) / rate
        self._session.started_at = self._utc(self._anchor)
        return 0.0

    def _held_s(self) -> float:
        """Return the duration of the audio that is held."""
        if not self._held:
            return 0.0
        assert self._connection
        return sum(item if isinstance(item, int) else len(item) for item in self._held) / self._connection.rate_hz

    def _settle(self) -> None:
        """Find out when the audio that is held began, and so what was lost before it."""
        connection, session = self._connection, self._session
        assert connection
        assert self._held
        begins = self._first_sample
        held, self._held = self._held, None
        self._skip = self._refund = 0
        if session is None:
            self._anchor = begins
            self._session = self._classifier.session(
                connection.rate_hz,
                channels=self._settings.channels,
                source=self.name,
                started_at=self._utc(begins),
                delay_s=self._settings.delay_s,
            )
            self._say("connected")
            self._live = not connection.finite
        elif self._live and connection.finite and ".m3u8" in self._source.address:
            self._end(DONE, "the broadcast has ended")  # its playlist now is that of a recording
            return
        else:
            assert self._trouble
            kind, self._trouble = REGAINED[self._trouble], None
            self._regained += 1
            lost_s = begins - self._anchor - session.received_s
            if lost_s >= 0:
                self._refund = round(lost_s * session.sample_rate_hz)
                self._lose(self._refund, kind)
            else:
                self._skip = round(-lost_s * session.sample_rate_hz) if self._source.regained else 0
                self._say(kind, lost_s=0.0)
        for item in held:
            self._push(item)

    def _push(self, item: Item) -> None:
        assert self._session
        if isinstance(item, int):
            self._lose(item, "gap")
            return
        if self._skip:
            skipped = min(self._skip, len(item))
            item, self._skip = item[skipped:], self._skip - skipped
        for event in self._session.push(item):
            self._emit(event)
        for code in self._session.warnings[self._warned :]:
            self._log(f"{self.name}: warning: {code}.")
        self._warned = len(self._session.warnings)

    def _lose(self, frames: int, kind: str) -> None:
        """Count frames that never came, and say so with an event of this kind."""
        assert self._session
        self._lost += frames
        self._gaps += 1
        for event in self._session.lose(frames / self._session.sample_rate_hz):
            self._emit(event)
        self._say(kind, lost_s=frames / self._session.sample_rate_hz)

    def _look_for_stall(self, now: float) -> None:
        """End the connection if audio has not come in time."""
        if self._arrived is None:
            most_s = max(CONNECT_S, self._settings.stall_s) if self._source.regained else self._settings.stall_s
            if now - self._began >= most_s:
                self._stall(now, f"no audio within {most_s:g} s")
            return
        # Audio that was sent at once lasts for its duration.
        due = max(self._arrived, self._burst_at + self._burst_s)
        if now - due >= self._settings.stall_s:
            self._stall(now, f"no audio for {now - self._arrived:.0f} s")
        elif self._source.regained and self._session and self._held is None:
            late_s = self._late_s(now)
            if late_s > LATE_S + self._settings.stall_s:
                self._stall(now, f"the audio comes too slowly: it is {late_s:.0f} s late")

    def _stall(self, now: float, why: str) -> None:
        self._blame = STALLED
        if self._source.regained:
            self._drop(now, "stall", why)
        else:  # it can only be waited for
            self._interrupted("stall", why)

    def _over(self, now: float) -> None:
        """The connection has ended by itself."""
        connection = self._connection
        assert connection
        if self._held:
            self._settle()
        if self.status is not None:
            return
        why = connection.failure
        if why is None and self._session is None:
            why = "it has no samples"
        if why is None:
            self._end(DONE, "end of the input")
        else:
            self._fail(now, why)

    def _fail(self, now: float, why: str) -> None:
        """The connection has failed, or could not be made."""
        self._blame = LOST
        if why == NO_PROTOCOL:  # however often it is tried
            self._end(FAILED, "PyAV cannot read such addresses; pipe it: ffmpeg -i URL -f wav - | ms-edge monitor -")
        elif self._source.regained and not (self._connection and self._connection.finite and self._session):
            self._drop(now, "lost", why)
        else:
            self._end(LOST if self._session else FAILED, why)

    def _drop(self, now: float, kind: str, why: str) -> None:
        """End the connection, and plan the next one."""
        if self._held and self._connection:
            self._settle()
        good = self._arrived is not None and now - self._began >= STEADY_S
        self._disconnect()
        self._failures = 0 if good else self._failures
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(self._failures, 30), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        self._failures += 1
        self._connect_at = now + wait_s
        if self._session and self._trouble is None:
            self._interrupted(kind, why)
        elif why != self._said or wait_s < LONGEST_WAIT_S / 2 or now - self._said_at >= SAY_AGAIN_S:
            self._said, self._said_at = why, now
            self._log(f"{self.name}: not connected: {why}; trying again in {wait_s:.1f} s.")

    def _interrupted(self, kind: str, why: str) -> None:
        """Say that audio no longer comes. What has come is decided at once."""
        if self._session and self._held is None:
            for event in self._session.lose(0.0):
                self._emit(event)
        self._trouble = kind
        self._say(kind, message=why)

    def _end(self, status: int, why: str) -> None:
        """End the source for good."""
        self._disconnect()
        lost_s = 0.0
        if self._session:
            for event in self._session.close():
                self._emit(event)
            lost_s = self._lost / self._session.sample_rate_hz
            why += f"; {duration(self._session.received_s - lost_s)} of audio came, and {lost_s:.3f} s were lost"
        self.status = status
        self._say("end", lost_s=lost_s, message=why)

    def stop(self) -> None:
        """End the source because the monitor stops."""
        if self.status is None:
            if self._held:
                self._settle()
            self._end(DONE, "the monitor was stopped")

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _say(self, kind: str, *, lost_s: float | None = None, message: str | None = None) -> None:
        """Emit an event about the connection at the present end of the stream."""
        time_s = self._session.received_s if self._session else 0.0
        utc = self._utc(self._anchor + time_s if self._session else self._clock.elapsed())
        self._emit(Event(kind=kind, source=self.name, time_s=time_s, utc=utc, lost_s=lost_s, message=message))

    def _utc(self, elapsed: float) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=elapsed + self._offset_s)

    def _follow_clock(self, now: float) -> None:
        """Keep the time of events that of this machine's clock, also when that is set."""
        shift_s = 0.0
        if now >= self._slew_at:
            if abs(self._least_late_s) < LATE_S:  # else this is no live source
                shift_s = max(-SLEW * SLEW_S, min(SLEW * SLEW_S, self._least_late_s))
            self._least_late_s, self._slew_at = math.inf, now + SLEW_S
        offset_s = self._clock.utc().timestamp() - now
        set_s = offset_s - self._offset_s
        if abs(set_s) < CLOCK_NOISE_S and not shift_s:
            return
        if abs(set_s) >= CLOCK_NOISE_S:
            self._offset_s = offset_s
        if abs(set_s) >= CLOCK_SET_S:
            self._log(f"{self.name}: the clock of this machine was set by {set_s:+.1f} s.")
        self._anchor += shift_s
        if self._session:
            self._session.started_at = self._utc(self._anchor)


def monitor(
    feeds: Sequence[Feed], consumers: Sequence[Consumer], clock: Clock, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Follow sources until all have ended, or `stopped()` is true, and return the exit status.

    It is the highest status of a source: 0 if they have ended, 1 if one could not be read at all, 4
    or 5 if one was given up after a stall or a lost connection.
    """
    tick_at = clock.elapsed()
    while True:
        now = clock.elapsed()
        if now >= min([tick_at, *(feed.connect_at for feed in feeds)]):
            tick_at = now + TICK_S
            for feed in feeds:
                feed.check()
            utc, progress = clock.utc(), {feed.name: feed.progress for feed in feeds}
            for consumer in consumers:
                consumer.tick(utc, progress)
        if stopped() or all(feed.status is not None for feed in feeds):
            break
        poll, due = select.poll(), dict[int, Feed]()
        until = min([tick_at + TICK_WAIT_S, *(feed.connect_at for feed in feeds)])
        for feed in feeds:
            if (descriptor := feed.descriptor) is None:
                continue
            if feed.read_at > now:
                until = min(until, feed.read_at)
            else:
                due[descriptor] = feed
                poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(1000 * max(0.0, until - clock.elapsed())):
            due[descriptor].ready()
    for feed in feeds:
        feed.stop()
    for consumer in reversed(consumers):  # rules are the last, and their alerts end
        consumer.close()
    return max(feed.status or DONE for feed in feeds)
