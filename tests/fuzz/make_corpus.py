"""Make the seed corpus again: `python tests/fuzz/make_corpus.py`.

Each file in `corpus/audio` is 0.4 s of one clip, in one container and one coding. The files in the
repository were made with libsndfile 1.2.2 (soundfile 0.14.0), FFmpeg 5.1.8 and other programs of
Debian 12 (`PROGRAMS`); other versions write other bytes. libsndfile also writes the time into files of floats, and random serial
numbers into Ogg files. Unusual files are made here from bytes. There is no encoder of Monkey's Audio
(APE) in FFmpeg.
"""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).parent.parent / "edge"))
import hostile

ROOT = Path(__file__).parent
CORPUS = ROOT / "corpus"
CLIP = ROOT.parent / "data" / "speech_italian_man.wav"
RATE = 8_000
SOUND = soundfile.read(CLIP, dtype="float32", start=16_000, frames=6_400)[0][::2]  # 0.4 s

SNDFILE = {  # subtypes of libsndfile by its name of a format
    "WAV": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32 NMS_ADPCM_16 "
    "NMS_ADPCM_24 NMS_ADPCM_32",
    "WAVEX": "PCM_16",
    "RF64": "PCM_16",
    "W64": "PCM_16 IMA_ADPCM MS_ADPCM GSM610",
    "AIFF": "PCM_S8 PCM_16 PCM_U8 FLOAT ULAW IMA_ADPCM GSM610 DWVW_16 DWVW_24",
    "AU": "PCM_16 FLOAT ULAW G721_32 G723_24 G723_40",
    "CAF": "PCM_16 ALAW ALAC_16 ALAC_20 ALAC_24 ALAC_32",
    "FLAC": "PCM_S8 PCM_16 PCM_24",
    "OGG": "VORBIS OPUS",
    "MP3": "MPEG_LAYER_III",
}
SUFFIXES = {"WAVEX": "wav", "RF64": "rf64", "W64": "w64"}  # of other formats: their name

VIDEO = ["-f", "lavfi", "-i", "color=size=16x16:rate=5:duration=0.4", "-c:v", "mpeg4", "-map", "1:v", "-map", "0:a"]
# Arguments of ffmpeg by the name of the file: an input is the clip, the output is added.
FFMPEG = {
    "aac.m4a": "-c:a aac -b:a 24k",
    "aac_start.m4a": "-c:a aac -b:a 24k -movflags +faststart",
    "aac_fragments.mp4": "-c:a aac -b:a 24k -movflags +frag_keyframe+empty_moov+default_base_moof -frag_duration 100000",
    "aac_video.mp4": [*VIDEO, "-c:a", "aac", "-b:a", "24k"],
    "alac.m4a": "-c:a alac",
    "ac3.mp4": "-ar 32000 -c:a ac3 -b:a 32k",
    "pcm.mov": "-c:a pcm_s16le",
    "aac.3gp": "-c:a aac -b:a 24k",
    "aac.aac": "-c:a aac -b:a 24k",
    "aac.latm": "-c:a aac -b:a 24k -f latm",
    "opus.mka": "-c:a libopus -b:a 16k",
    "flac.mka": "-c:a flac",
    "aac.mkv": "-c:a aac -b:a 24k",
    "vorbis_video.mkv": [*VIDEO, "-c:a", "libvorbis"],
    "opus.webm": "-c:a libopus -b:a 16k",
    "wmav1.wma": "-c:a wmav1 -b:a 24k",
    "wmav2.wma": "-c:a wmav2 -b:a 24k",
    "ac3.ac3": "-ar 32000 -c:a ac3 -b:a 32k",
    "eac3.eac3": "-ar 32000 -c:a eac3 -b:a 32k",
    "dts.dts": "-ar 32000 -c:a dca -strict -2 -b:a 96k",
    "wavpack.wv": "-c:a wavpack",
    "tta.tta": "-c:a tta",
    "mp3.flv": "-ar 11025 -c:a libmp3lame -b:a 16k",
    "aac.flv": "-c:a aac -b:a 24k",
    "mp3.avi": "-c:a libmp3lame -b:a 16k",
    "pcm.avi": "-c:a pcm_u8",
    "mp2.ts": "-ar 16000 -c:a mp2 -b:a 16k",
    "aac.ts": "-c:a aac -b:a 24k",
    "mp2.mpg": "-ar 16000 -c:a mp2 -b:a 16k",
    "speex.ogg": "-c:a libspeex",
    "flac.oga": "-c:a flac",
    "frames.flac": "-c:a flac -frame_size 576",
    "vorbis_pages.ogg": "-c:a libvorbis -page_duration 50000",
    "opus_pages.opus": "-c:a libopus -b:a 16k -page_duration 50000",
    "mp2.mp2": "-ar 16000 -c:a mp2 -b:a 16k",
    "vbr.mp3": "-c:a libmp3lame -q:a 7 -id3v2_version 3 -metadata title=a -write_id3v1 1",
    "no_header.mp3": "-c:a libmp3lame -b:a 16k -write_xing 0 -id3v2_version 0",
    "mp3.wav": "-c:a libmp3lame -b:a 16k",
    "mp2.wav": "-ar 16000 -c:a mp2 -b:a 16k",
    "pcm.voc": "-c:a pcm_u8",
    "pcm.ircam": "-f ircam -c:a pcm_mulaw",
    "gsm.gsm": "-c:a libgsm",
    "g722.g722": "-ar 16000 -c:a g722",
    "ac3.rm": "-ar 32000 -c:a ac3 -b:a 32k",
    "real_144.ra": "-f rm -c:a real_144",
    "mp2.wtv": "-ar 16000 -c:a mp2 -b:a 16k",
    "bext.wav": "-c:a pcm_u8 -write_bext 1 -metadata date=2026-01-02 -metadata creation_time=03:04:05",
}

# Commands of other programs by the name of the file: CLIP is the clip, OUT the file.
GSTREAMER = (
    "gst-launch-1.0 -q filesrc location=CLIP ! wavparse ! audioconvert ! vorbisenc ! MUX ! filesink location=OUT"
)
PROGRAMS = {
    "sox_ima.wav": "sox CLIP -e ima-adpcm OUT",
    "sox_gsm.wav": "sox CLIP -e gsm-full-rate OUT",
    "sox.aiff": "sox CLIP OUT",
    "sox.au": "sox CLIP -e mu-law OUT",
    "sox.8svx": "sox CLIP -b 8 OUT",
    "sox.sph": "sox CLIP -e mu-law OUT",
    "lame.mp3": "lame --quiet -b 16 CLIP OUT",
    "flac.flac": "flac --silent --no-padding -o OUT CLIP",
    "oggenc.ogg": "oggenc -Q -q 0 -o OUT CLIP",
    "opusenc.opus": "opusenc --quiet --bitrate 16 CLIP OUT",
    "fdkaac.m4a": "fdkaac -S -b 24 -o OUT CLIP",
    "faac.m4a": "faac -b 24 -o OUT CLIP",
    "mkvmerge.mka": "mkvmerge -q -o OUT CLIP",
    "wavpack_fast.wv": "wavpack -q -f CLIP -o OUT",
    "gstreamer.ogg": GSTREAMER.replace("MUX", "oggmux"),
    "gstreamer.mka": GSTREAMER.replace("MUX", "matroskamux"),
}


def sndfile(form: str, subtype: str) -> bytes:
    """Return the clip as libsndfile writes it."""
    with tempfile.TemporaryDirectory() as folder:  # some subtypes need a file that can be read again
        path = Path(folder) / "a"
        soundfile.write(path, SOUND, RATE, format=form, subtype=subtype)
        return path.read_bytes()


def ffmpeg(name: str, arguments: str | list[str]) -> bytes:
    """Return the clip as ffmpeg writes it to a file of this name."""
    if isinstance(arguments, str):
        arguments = arguments.split()
    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder) / "clip.wav", Path(folder) / name
        soundfile.write(clip, SOUND, RATE)
        command = ["ffmpeg", "-v", "error", "-i", clip, *arguments, "-fflags", "+bitexact", "-flags", "+bitexact"]
        subprocess.run([*command, out], check=True, timeout=60)
        return out.read_bytes()


def program(name: str, command: str) -> bytes:
    """Return the clip as another program writes it."""
    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder) / "clip.wav", Path(folder) / name
        soundfile.write(clip, SOUND, RATE)
        places = {"CLIP": str(clip), "OUT": str(out)}
        words = [re.sub("CLIP|OUT", lambda found: places[found[0]], word) for word in command.split()]
        subprocess.run(words, check=True, timeout=60, capture_output=True)
        return out.read_bytes()


def endless_wav() -> bytes:
    """Return a WAV file as a program writes it to a pipe."""
    content = bytearray(sndfile("WAV", "PCM_16"))
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff" * 4
    return bytes(content)


def big_endian_wav() -> bytes:
    """Return a RIFX file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", endian="BIG", format="WAV") as file:
            file.write(SOUND)
        return path.read_bytes()


def amr(magic: bytes, mode: int, frame_bytes: int) -> bytes:
    """Return 20 frames (0.4 s) of AMR (RFC 4867, section 5) with random bits: any bits are speech."""
    bits = random.Random(0)
    return magic + b"".join(bytes([mode << 3 | 4]) + bits.randbytes(frame_bytes - 1) for _ in range(20))


def dsf() -> bytes:
    """Return 0.4 s of noise as DSD in a DSF file (Sony, DSF File Format Specification 1.01).

    Its rate is far below that of DSD64, to keep the file small: FFmpeg makes 16 kHz of it.
    """
    rate, block = 128_000, 4_096
    samples = rate * 4 // 10
    blocks = -(-samples // 8 // block)
    data = random.Random(0).randbytes(block) * blocks
    fmt = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, rate, 1, samples, block, 0)
    body = struct.pack("<4sQ", b"data", 12 + len(data)) + data
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(fmt) + len(body), 0) + fmt + body


BYTES: dict[str, Callable[[], bytes]] = {
    "endless.wav": endless_wav,
    "rifx.wav": big_endian_wav,
    "id3.flac": lambda: hostile.ID3 + sndfile("FLAC", "PCM_16"),
    "chained.ogg": lambda: sndfile("OGG", "VORBIS") + sndfile("OGG", "VORBIS"),
    "joined.mp3": lambda: sndfile("MP3", "MPEG_LAYER_III") * 2,
    "free_format.mp3": lambda: free_format(),
    "amr_nb.amr": lambda: amr(b"#!AMR\n", 7, 32),
    "amr_wb.amr": lambda: amr(b"#!AMR-WB\n", 2, 33),
    "dsd.dsf": dsf,
}


def free_format() -> bytes:
    """Return silent frames of MPEG 1, layer II, of 300 bytes each, whose bit rate is not stated."""
    return (b"\xff\xfd\x00\xc0" + bytes(296)) * 20


def main() -> None:
    """Write all files of the corpus."""
    shutil.rmtree(CORPUS / "audio", ignore_errors=True)
    (CORPUS / "audio").mkdir(parents=True)
    made = {
        f"{form.lower()}_{subtype.lower()}.{SUFFIXES.get(form, form.lower())}": sndfile(form, subtype)
        for form, subtypes in SNDFILE.items()
        for subtype in subtypes.split()
    }
    made |= {name: ffmpeg(name, arguments) for name, arguments in FFMPEG.items()}
    made |= {name: program(name, command) for name, command in PROGRAMS.items()}
    made |= {name: make() for name, make in BYTES.items()}
    for name, content in made.items():
        (CORPUS / "audio" / name).write_bytes(content)
    print(f"{len(made)} files, {sum(map(len, made.values())):,} bytes")


if __name__ == "__main__":
    main()
