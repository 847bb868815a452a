"""The formats that are read: one list, from which names, directories, errors and documents are made."""

from __future__ import annotations

import re
from typing import NamedTuple

from ms_edge.audio.riff import is_wav


class Container(NamedTuple):
    """A file format: its name for users and in records, and what each decoder calls it.

    `extensions` are those of file names; `start` is a regular expression of the first bytes, empty
    if they are not always the same. `libsndfile` are libsndfile's names of the format, empty if
    FFmpeg reads it, and `demuxer` is FFmpeg's. `frames_per_byte` is an upper limit for the samples
    per channel that one byte of a file can hold: some decoders never end if a header is wrong.
    """

    name: str
    short: str
    extensions: tuple[str, ...]
    start: bytes
    libsndfile: tuple[str, ...]
    demuxer: str
    frames_per_byte: int


def _format(
    name: str, short: str, extensions: str, start: bytes, demuxer: str, most: int, libsndfile: str = ""
) -> Container:
    return Container(name, short, tuple(extensions.split()), start, tuple(libsndfile.split()), demuxer, most)


# The densest codings in containers that may hold any: 65,535 samples in 12 bytes (FLAC), 5,760 in 3
# (Opus), 4,096 in 20 (ALAC).
ANY = 8192

# The formats that libsndfile reads. FFmpeg reads the codings in them that libsndfile does not decode.
SOUND = (
    # The densest coding, GSM 6.10, has 320 samples in 65 bytes. MP3 in WAV counts as MP3.
    _format("WAV (also RF64)", "wav", ".wav .rf64", rb"(RIFF|RIFX|RF64)....WAVE", "wav", 8, "WAV WAVEX RF64"),
    _format("Wave64", "w64", ".w64", rb"riff.{20}wave", "w64", 8, "W64"),
    # Digital silence has 65,535 samples in a frame of 12 bytes.
    _format("FLAC", "flac", ".flac", rb"fLaC", "flac", 8192, "FLAC"),
    # Vorbis has at most 4,096 samples in 2 bytes, Opus 5,760 samples in 3 bytes.
    _format("Ogg", "ogg", ".ogg .oga .opus .spx .ogv .ogm .ogx", rb"OggS", "ogg", 8192, "OGG"),
    # MP3 has 576 samples in 24 bytes at 8 kbit/s and 24 kHz, and 1,152 in 40 in free format.
    _format("MP3, MP2 and MP1", "mp3", ".mp3 .mp2 .mp1 .mpa .mpga", rb"", "mp3", 64, "MP3"),
    # Silence in DWVW has one sample per bit.
    _format("AIFF", "aiff", ".aiff .aif .aifc", rb"FORM....AIF[FC]", "aiff", 16, "AIFF"),
    # Silence in ALAC has 4,096 samples in 20 bytes.
    _format("CAF", "caf", ".caf", rb"caff", "caf", 8192, "CAF"),
    # G.723 at 24 kbit/s has 8 samples in 3 bytes.
    _format("AU", "au", ".au .snd", rb"\.snd|dns\.", "au", 8, "AU"),
)

# The formats that only FFmpeg reads.
MEDIA = (
    _format("MP4 (M4A, MOV, 3GP)", "mp4", ".m4a .mp4 .m4b .m4r .m4v .mov .qt .3gp .3g2 .3ga .f4a .f4v .alac",
            rb"....(ftyp|styp|moov|moof|mdat|free|skip|wide|pnot|sidx)", "mov", ANY),
    # A frame of 1,024 samples, 2,048 with SBR, has at least 9 bytes.
    _format("AAC (ADTS)", "aac", ".aac .adts", rb"\xff[\xf0\xf1\xf8\xf9]", "aac", 512),
    _format("AAC (LOAS)", "loas", ".loas .latm", rb"\x56[\xe0-\xff]", "loas", 1024),
    _format("Matroska (MKV, MKA, WebM)", "matroska", ".mkv .mka .webm .weba", rb"\x1a\x45\xdf\xa3", "matroska", ANY),
    _format("Windows Media (WMA, WMV)", "asf", ".wma .wmv .asf", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf", ANY),
    _format("AC-3", "ac3", ".ac3", rb"\x0b\x77...[\x00-\x57]|\x77\x0b", "ac3", 64),
    _format("E-AC-3", "eac3", ".eac3 .ec3", rb"\x0b\x77...[\x58-\x87]", "eac3", 512),
    _format("DTS", "dts", ".dts", rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\x00|\xff\x1f\x00\xe8", "dts", 64),
    _format("DTS-HD", "dtshd", ".dtshd", rb"DTSHDHDR", "dtshd", ANY),
    _format("Dolby TrueHD", "truehd", ".thd", rb"....\xf8\x72\x6f\xba", "truehd", ANY),
    _format("MLP", "mlp", ".mlp", rb"....\xf8\x72\x6f\xbb", "mlp", ANY),
    # A frame of silence (discontinuous transmission) has one byte for 160 samples, or 320 (AMR-WB).
    _format("AMR (NB and WB)", "amr", ".amr .awb", rb"#!AMR", "amr", 320),
    _format("WavPack", "wavpack", ".wv", rb"wvpk", "wv", 1 << 15),
    # A frame of silence has a few bytes for as many as 1,179,648 samples.
    _format("Monkey's Audio", "ape", ".ape", rb"MAC ", "ape", 1 << 18),
    _format("TTA", "tta", ".tta", rb"TTA[12]", "tta", ANY),
    _format("TAK", "tak", ".tak", rb"tBaK", "tak", 1 << 15),
    _format("Musepack SV7", "mpc", ".mpc", rb"MP\+", "mpc", ANY),
    _format("Musepack SV8", "mpc8", ".mp8", rb"MPCK", "mpc8", ANY),
    _format("DSF (DSD)", "dsf", ".dsf", rb"DSD ", "dsf", 8),
    _format("DSDIFF (DSD)", "dff", ".dff", rb"FRM8", "iff", 64),
    _format("AVI", "avi", ".avi .divx", rb"RIFF....AVI[ X\x19]", "avi", ANY),
    _format("Flash Video", "flv", ".flv", rb"FLV", "flv", ANY),
    _format("MPEG transport stream", "mpegts", ".ts .mts .m2ts .m2t",
            rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G", "mpegts", ANY),
    _format("MPEG program stream (VOB)", "mpeg", ".mpg .mpeg .mpe .vob .m2p", rb"\x00\x00\x01[\xb3\xba]", "mpeg", ANY),
    _format("MXF", "mxf", ".mxf", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf", ANY),
    _format("RealMedia", "rm", ".rm .ra .rmvb", rb"\.RMF|\.ra\xfd", "rm", ANY),
    _format("Creative Voice (VOC)", "voc", ".voc", rb"Creative Voice File", "voc", 64),
    _format("Amiga (8SVX)", "8svx", ".8svx .svx", rb"FORM....(8SVX|16SV)", "iff", 64),
    _format("GSM 06.10", "gsm", ".gsm", rb"", "gsm", 8),
    _format("NIST SPHERE", "nist", ".sph .nist", rb"NIST_1A", "nistsphere", 64),
    _format("IRCAM", "ircam", ".sf .ircam", rb"\x64\xa3[\x00-\x07]\x00|\x00[\x00-\x07]\xa3\x64", "ircam", 8),
    _format("Shorten", "shn", ".shn", rb"ajkg", "shn", ANY),
    _format("QCP (QCELP and EVRC)", "qcp", ".qcp", rb"RIFF....QLCM", "qcp", 320),
    _format("xWMA", "xwma", ".xwma", rb"RIFF....XWMA", "xwma", ANY),
    _format("ATRAC (OMA)", "oma", ".oma .aa3 .at3", rb"EA3|ea3", "oma", 64),
    _format("Windows TV (WTV)", "wtv", ".wtv", rb"\xb7\xd8\x00\x20\x37\x49\xda\x11", "wtv", ANY),
    _format("DV", "dv", ".dv", rb"\x1f\x07\x00", "dv", 64),
    _format("Digital Speech Standard (DSS)", "dss", ".dss .ds2", rb"[\x02\x03]ds[s2]", "dss", 64),
    _format("G.722", "g722", ".g722", rb"", "g722", 8),
)  # fmt: skip

CONTAINERS = SOUND + MEDIA
# Extensions that also, or mostly, stand for something else, as .ts for TypeScript. Such a file is read if it
# is named, and not taken from a directory.
AMBIGUOUS = (".ts", ".sf", ".snd", ".dss", ".oma")
EXTENSIONS = tuple(
    extension for container in CONTAINERS for extension in container.extensions if extension not in AMBIGUOUS
)
# Extensions of recordings that are not read: encrypted, or without a header and of a coding of their own.
NOT_READ = (".aa", ".aax", ".g729", ".m4p", ".mpp", ".ofr", ".vox")
# An output with one of these extensions would replace a recording, so it is refused.
RECORDINGS = (*(extension for container in CONTAINERS for extension in container.extensions), *NOT_READ, ".raw", ".pcm")
READ = ", ".join(container.name for container in SOUND) + ", and with FFmpeg M4A, MP4, WMA, Matroska and others"
START_BYTES = 400  # of a file, which every `start` needs at most

# FFmpeg's names of codings, by libsndfile's.
BITS = {
    "PCM_S8": "pcm_s8", "PCM_U8": "pcm_u8", "PCM_16": "pcm_s16", "PCM_24": "pcm_s24", "PCM_32": "pcm_s32",
    "FLOAT": "pcm_f32", "DOUBLE": "pcm_f64",
}  # fmt: skip
CODECS = {
    "ULAW": "pcm_mulaw", "ALAW": "pcm_alaw", "IMA_ADPCM": "adpcm_ima_wav", "MS_ADPCM": "adpcm_ms", "GSM610": "gsm_ms",
    "G721_32": "adpcm_g726", "MPEG_LAYER_I": "mp1", "MPEG_LAYER_II": "mp2", "MPEG_LAYER_III": "mp3",
    "ALAC_16": "alac", "ALAC_20": "alac", "ALAC_24": "alac", "ALAC_32": "alac",
}  # fmt: skip

OTHERS = {  # the first bytes of formats that are not supported, most of which libsndfile would open
    "AVR": rb"2BIT",
    "PAF": rb" paf|fap ",
    "PVF": rb"PVF1",
    "MATLAB": rb"MATLAB 5|\x00\x00\x03\xe8\x00\x00\x00\x01|\x00\x00\x00\x00\x01\x00\x00\x00",
    "FastTracker (XI)": rb"Extended Ins",
    "Psion (WVE)": rb"ALawSoundFil",
    "MIDI Sample Dump (SDS)": rb"\xf0\x7e[\x00-\x7f]\x01",
    "Akai MPC": rb"\x01\x04",
    "REX2": rb"CAT ....REX2",
    "a tracker module": rb"Extended Module|IMPM|.{44}SCRM|.{1080}(M\.K\.|M!K!|FLT4|[468]CHN)",
    "MIDI": rb"MThd",
    "HTK": rb"........\x00\x02\x00\x00",
}


def begins_as_read(start: bytes) -> bool:
    """Return whether libsndfile reads a file that begins with these 40 bytes.

    MP3 and MP2 are not recognised.
    """
    return (
        is_wav(start)
        or start[:4] in (b"fLaC", b"OggS", b"caff", b".snd", b"dns.")
        or (start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"))
    )


def container_of(known_as: str) -> Container | None:
    """Return the format with this name in libsndfile, or None if it is not supported."""
    return next((container for container in SOUND if known_as in container.libsndfile), None)


def codec_of(subtype: str, form: str, endian: str) -> str:
    """Return FFmpeg's name of a coding that libsndfile calls `subtype`, in a format of its own.

    `form` and `endian` are libsndfile's names of the container and of the order of bytes.
    """
    if form == "FLAC":
        return "flac"
    if subtype in BITS:
        big = endian == "BIG" or (endian == "FILE" and form in ("AIFF", "AU", "CAF"))
        return BITS[subtype] + ("" if subtype.endswith("8") else "be" if big else "le")
    return CODECS.get(subtype, subtype.lower())


def recognised(start: bytes, formats: tuple[Container, ...] = CONTAINERS) -> Container | None:
    """Return the format of a file that begins with these `START_BYTES` bytes; None if unknown."""
    return next((one for one in formats if one.start and re.match(one.start, start, re.DOTALL)), None)


def named(path: str, formats: tuple[Container, ...]) -> Container | None:
    """Return the format that has the extension of a path; None if it is none of these."""
    return next((one for one in formats if path.lower().endswith(one.extensions)), None)


def name_of(start: bytes) -> str | None:
    """Return the name of an unsupported format from its first bytes; None if unknown."""
    return next((name for name, pattern in OTHERS.items() if re.match(pattern, start, re.DOTALL)), None)
