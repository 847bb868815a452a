"""Facts about MPEG transport and program streams. They state no duration.

Source: ISO/IEC 13818-1 (transport packets, PES packets, packs).
"""

from __future__ import annotations

from ms_edge.audio.facts.reader import Facts, Reader

PACKET = 188  # bytes of a transport packet; 192 with the time codes of Blu-ray
SYNC = 0x47
TAIL = 1 << 20  # bytes at the end that are inspected
AUDIO_STREAMS = frozenset((*range(0xC0, 0xE0), 0xBD, 0xFD))


def facts(data: Reader) -> Facts | None:
    """Return whether the file ends within a packet of audio; None if it is of another kind."""
    if data.at(0, 4) == b"\0\0\1\xba":
        return Facts(cut=_program_is_cut(data))
    for before, size in ((0, PACKET), (4, PACKET + 4)):
        if all(data.at(before + i * size, 1) == bytes([SYNC]) for i in range(3)):
            return Facts(cut=_transport_is_cut(data, before, size))
    return None


def _transport_is_cut(data: Reader, before: int, size: int) -> bool:
    """Return whether the last transport packet, or the last PES packet of any audio, is incomplete."""
    count, rest = divmod(data.size, size)
    first = max(0, count - TAIL // size)
    tail = data.at(first * size, (count - first) * size)
    missing: dict[int, int] = {}  # bytes of the PES packet of each audio stream that are still to come
    for i in range(before, len(tail), size):
        packet = tail[i : i + PACKET]
        if len(packet) < PACKET or packet[0] != SYNC or not packet[3] & 0x10:
            continue
        body = packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) :]
        number = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[1] & 0x40:  # a PES packet begins
            missing.pop(number, None)
            if (
                len(body) >= 6
                and body[:3] == b"\0\0\1"
                and body[3] in AUDIO_STREAMS
                and (length := int.from_bytes(body[4:6], "big"))
            ):
                missing[number] = 6 + length - len(body)
        elif number in missing:
            missing[number] -= len(body)
    return bool(rest) or any(left > 0 for left in missing.values())


def _program_is_cut(data: Reader) -> bool:
    """Return whether the last packet of a program stream is incomplete."""
    start = max(0, data.size - TAIL)
    tail = data.at(start, TAIL)
    at = 0 if start == 0 else tail.find(b"\0\0\1\xba")
    while 0 <= at < len(tail):
        head = tail[at : at + 14]
        if head[:4] == b"\0\0\1\xb9":  # the end code
            return False
        if len(head) < 6:
            return True
        if head[:3] != b"\0\0\1":  # other bytes follow the last packet
            return False
        if head[3] == 0xBA:
            at += 14 + (head[13] & 7) if len(head) == 14 and head[4] >> 6 == 1 else 12
        else:
            at += 6 + int.from_bytes(head[4:6], "big")
    return at > len(tail)
