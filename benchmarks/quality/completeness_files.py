"""Write one recording as sound files of many formats, with every encoder that this machine has.

`COMMANDS` lists programs, `LIBRARY` what libsndfile writes, and `FFMPEG` what FFmpeg writes, which
is tried with the program and with PyAV. A writer that is absent is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SAMPLES = Path(__file__).parent.parent.parent / "tests" / "data"
TIMEOUT_S = 60.0  # for one command
# By name: source in tests/data, sample rate in Hz, channels, frames. Odd lengths are no multiple of
# the frame of any codec.
RECORDINGS = {
    "8k": ("speech_french_woman.wav", 8_000, 1, 16_001),
    "16k": ("speech_italian_man.wav", 16_000, 1, 32_003),
    "44k": ("music_crossroads_stereo.wav", 44_100, 2, 88_211),
    "44k1": ("music_crossroads_stereo.wav", 44_100, 1, 88_211),
    "48k": ("music_crossroads_stereo.wav", 48_000, 2, 96_013),
}
# Codecs that return exactly the frames that they were given.
LOSSLESS = ("PCM", "float", "A-law", "µ-law", "FLAC", "ALAC", "TTA", "WavPack", "DWVW", "TrueHD")

# writer | container | codec | recording | extension | command; {i} is a WAV file of 16 bits, {o} the file;
# a pipe has no space before it. Left out are Opus in MP4 by GStreamer 1.22 (its pre-skip has the wrong
# byte order), its ASF (padding of the wrong size), and what FFmpeg writes but cannot read itself (AAC in
# WAV, TTA in Matroska).
COMMANDS = r"""
sox | WAV | PCM | 16k | wav | sox {i} {o}
sox | WAV | PCM | 8k | wav | sox {i} -b 8 -e unsigned {o}
sox | WAV | PCM | 44k1 | wav | sox {i} -b 24 {o}
sox | WAV | PCM (pipe) | 16k | wav | sox {i} -t wav - |cat > {o}
sox | WAV | float | 44k | wav | sox {i} -b 32 -e float {o}
sox | WAV | A-law | 8k | wav | sox {i} -e a-law {o}
sox | WAV | µ-law | 8k | wav | sox {i} -e mu-law {o}
sox | WAV | ADPCM (IMA) | 16k | wav | sox {i} -e ima-adpcm {o}
sox | WAV | ADPCM (Microsoft) | 44k | wav | sox {i} -e ms-adpcm {o}
sox | WAV | GSM 6.10 | 8k | wav | sox {i} -e gsm-full-rate {o}
sox | Wave64 | PCM | 44k | w64 | sox {i} {o}
sox | AIFF | PCM | 44k | aiff | sox {i} {o}
sox | AIFF | PCM | 8k | aiff | sox {i} -b 8 {o}
sox | AIFF | PCM (AIFF-C) | 16k | aifc | sox {i} {o}
sox | AU | PCM | 44k | au | sox {i} {o}
sox | AU | PCM (pipe) | 16k | au | sox {i} -t au - |cat > {o}
sox | AU | µ-law | 8k | au | sox {i} -e mu-law {o}
sox | CAF | PCM | 44k | caf | sox {i} {o}
sox | FLAC | FLAC | 44k | flac | sox {i} {o}
sox | Ogg | Vorbis | 44k | ogg | sox {i} {o}
sox | MP3 | MP3 | 44k | mp3 | sox {i} -C 64 {o}
sox | MP2 | MP2 | 48k | mp2 | sox {i} {o}
sox | AMR | AMR-NB | 8k | amr | sox {i} -t amr-nb {o}
sox | VOC | PCM | 16k | voc | sox {i} {o}
sox | NIST SPHERE | PCM | 16k | sph | sox {i} {o}
sox | IRCAM | PCM | 44k | sf | sox {i} {o}
sox | 8SVX | PCM | 8k | 8svx | sox {i} {o}
sox | GSM 06.10 | GSM 06.10 | 8k | gsm | sox {i} {o}
mpcenc | Musepack | Musepack | 44k | mpc | mpcenc --silent {i} {o}
arecord | WAV | PCM | 16k | wav | arecord -q -D mic -f S16_LE -r {rate} -c {channels} -s {frames} {o}
arecord | WAV | PCM (pipe) | 16k | wav | arecord -q -D mic -f S16_LE -r {rate} -c {channels} -s {frames} -t wav |cat > {o}
arecord | AU | PCM | 16k | au | arecord -q -D mic -f S16_BE -r {rate} -c {channels} -s {frames} -t au {o}
sfconvert | WAV | PCM | 44k | wav | sfconvert {i} {o} format wave
sfconvert | WAV | ADPCM (IMA) | 44k1 | wav | sfconvert {i} {o} format wave compression ima
sfconvert | WAV | ADPCM (Microsoft) | 44k1 | wav | sfconvert {i} {o} format wave compression msadpcm
sfconvert | AIFF | PCM | 44k | aiff | sfconvert {i} {o} format aiff
sfconvert | AIFF | PCM (AIFF-C) | 44k | aifc | sfconvert {i} {o} format aifc
sfconvert | AU | PCM | 44k | au | sfconvert {i} {o} format next
sfconvert | CAF | PCM | 44k | caf | sfconvert {i} {o} format caf
sfconvert | CAF | ALAC | 44k | caf | sfconvert {i} {o} format caf compression alac
sfconvert | FLAC | FLAC | 44k | flac | sfconvert {i} {o} format flac compression flac
flac | FLAC | FLAC | 44k | flac | flac -s -f -8 {i} -o {o}
flac | FLAC | FLAC | 16k | flac | flac -s -f -0 --no-padding --no-seektable {i} -o {o}
flac | FLAC | FLAC (pipe) | 16k | flac | cat {i} |flac -s -c - |cat > {o}
flac | Ogg | FLAC | 44k | oga | flac -s -f --ogg {i} -o {o}
oggenc | Ogg | Vorbis | 44k | ogg | oggenc -Q {i} -o {o}
oggenc | Ogg | Vorbis | 8k | ogg | oggenc -Q -q 0 {i} -o {o}
opusenc | Ogg | Opus | 48k | opus | opusenc --quiet {i} {o}
opusenc | Ogg | Opus | 16k | opus | opusenc --quiet --bitrate 16 --framesize 60 {i} {o}
opusenc | Ogg | Opus | 44k | opus | opusenc --quiet {i} {o}
lame | MP3 | MP3 | 44k | mp3 | lame --quiet -b 128 {i} {o}
lame | MP3 | MP3 | 44k1 | mp3 | lame --quiet -V 5 {i} {o}
lame | MP3 | MP3 | 16k | mp3 | lame --quiet --abr 40 {i} {o}
lame | MP3 | MP3 | 8k | mp3 | lame --quiet -b 16 {i} {o}
lame | MP3 | MP3 | 48k | mp3 | lame --quiet -V 2 --tt title --add-id3v2 {i} {o}
lame | MP3 | MP3 (no length) | 44k | mp3 | lame --quiet -t -b 96 {i} {o}
lame | MP3 | MP3 (no length) | 16k | mp3 | lame --quiet -t -V 6 {i} {o}
lame | MP3 | MP3 (no length) | 44k1 | mp3 | lame --quiet -t --freeformat -b 200 {i} {o}
twolame | MP2 | MP2 | 44k | mp2 | twolame --quiet {i} {o}
twolame | MP2 | MP2 | 16k | mp2 | twolame --quiet -b 32 {i} {o}
fdkaac | MP4 | AAC | 44k | m4a | fdkaac -S -b 96k {i} -o {o}
fdkaac | MP4 | HE-AAC | 44k | m4a | fdkaac -S -p 5 -b 48k {i} -o {o}
fdkaac | MP4 | AAC | 16k | m4a | fdkaac -S -b 32k --moov-before-mdat {i} -o {o}
fdkaac | ADTS | AAC | 44k | aac | fdkaac -S -f 2 -b 96k {i} -o {o}
fdkaac | ADTS | HE-AAC | 44k | aac | fdkaac -S -f 2 -p 5 -b 48k {i} -o {o}
faac | MP4 | AAC | 44k | m4a | faac -b 96 {i} -o {o}
faac | ADTS | AAC | 48k | aac | faac -b 96 {i} -o {o}
wavpack | WavPack | WavPack | 44k | wv | wavpack -q -y {i} -o {o}
wavpack | WavPack | WavPack | 16k | wv | wavpack -q -y -b3 {i} -o {o}
wavpack | WavPack | WavPack (pipe) | 16k | wv | cat {i} |wavpack -q -y - -o - |cat > {o}
mkvmerge | Matroska | PCM | 44k | mka | mkvmerge -q -o {o} {i}
mkvmerge | Matroska | FLAC | 44k | mka | flac -s -f {i} -o {o}.flac && mkvmerge -q -o {o} {o}.flac
mkvmerge | Matroska | MP3 | 44k | mka | lame --quiet {i} {o}.mp3 && mkvmerge -q -o {o} {o}.mp3
mkvmerge | Matroska | Opus | 48k | mka | opusenc --quiet {i} {o}.opus && mkvmerge -q -o {o} {o}.opus
mkvmerge | Matroska | AAC | 44k | mka | fdkaac -S -b 96k {i} -o {o}.m4a && mkvmerge -q -o {o} {o}.m4a
mkvmerge | WebM | Vorbis | 44k | webm | oggenc -Q {i} -o {o}.ogg && mkvmerge -q -w -o {o} {o}.ogg
gstreamer | WAV | PCM | 44k | wav | {gst} ! wavenc ! filesink location={o}
gstreamer | WAV | PCM (pipe) | 16k | wav | {gst} ! wavenc ! fdsink |cat > {o}
gstreamer | WAV | µ-law | 8k | wav | {gst} ! mulawenc ! wavenc ! filesink location={o}
gstreamer | AIFF | PCM | 44k | aiff | {gst} ! audioconvert ! aiffmux ! filesink location={o}
gstreamer | FLAC | FLAC | 44k | flac | {gst} ! flacenc ! filesink location={o}
gstreamer | Ogg | Vorbis | 44k | ogg | {gst} ! audioconvert ! vorbisenc ! oggmux ! filesink location={o}
gstreamer | Ogg | Opus | 48k | opus | {gst} ! opusenc ! oggmux ! filesink location={o}
gstreamer | Ogg | FLAC | 44k | oga | {gst} ! flacenc ! oggmux ! filesink location={o}
gstreamer | Ogg | Speex | 16k | spx | {gst} ! speexenc ! oggmux ! filesink location={o}
gstreamer | MP3 | MP3 (no length) | 44k | mp3 | {gst} ! lamemp3enc ! filesink location={o}
gstreamer | MP3 | MP3 | 44k | mp3 | {gst} ! lamemp3enc ! xingmux ! filesink location={o}
gstreamer | MP2 | MP2 | 48k | mp2 | {gst} ! twolamemp2enc ! filesink location={o}
gstreamer | MP4 | AAC | 44k | m4a | {gst} ! voaacenc ! aacparse ! mp4mux ! filesink location={o}
gstreamer | MP4 | AAC (fragmented) | 44k | mp4 | {gst} ! voaacenc ! aacparse ! mp4mux fragment-duration=500 ! filesink location={o}
gstreamer | MOV | PCM | 44k | mov | {gst} ! qtmux ! filesink location={o}
gstreamer | MOV | AAC | 44k | mov | {gst} ! voaacenc ! aacparse ! qtmux ! filesink location={o}
gstreamer | 3GP | AMR-NB | 8k | 3gp | {gst} ! amrnbenc ! 3gppmux ! filesink location={o}
gstreamer | AMR | AMR-WB | 16k | amr | (printf '#!AMR-WB\n'; {gst} ! voamrwbenc ! fdsink |cat) > {o}
gstreamer | ADTS | AAC | 44k | aac | {gst} ! voaacenc ! aacparse ! audio/mpeg,stream-format=adts ! filesink location={o}
gstreamer | Matroska | AAC | 44k | mka | {gst} ! voaacenc ! aacparse ! matroskamux ! filesink location={o}
gstreamer | WebM | Opus | 48k | webm | {gst} ! opusenc ! webmmux ! filesink location={o}
gstreamer | WebM | Opus (pipe) | 48k | webm | {gst} ! opusenc ! webmmux streamable=true ! filesink location={o}
gstreamer | AVI | PCM | 44k | avi | {gst} ! avimux ! filesink location={o}
gstreamer | AVI | MP3 | 44k | avi | {gst} ! lamemp3enc ! avimux ! filesink location={o}
gstreamer | FLV | AAC | 44k | flv | {gst} ! voaacenc ! aacparse ! flvmux ! filesink location={o}
gstreamer | MPEG-TS | AAC | 44k | ts | {gst} ! voaacenc ! aacparse ! mpegtsmux ! filesink location={o}
gstreamer | MPEG-PS | MP2 | 44k | mpg | {gst} ! twolamemp2enc ! mpegaudioparse ! mpegpsmux ! filesink location={o}
gstreamer | WavPack | WavPack | 44k | wv | {gst} ! audioconvert ! wavpackenc ! filesink location={o}
ffmpeg | WAV | PCM (pipe) | 16k | wav | ffmpeg -v error -i {i} -f wav - |cat > {o}
ffmpeg | FLAC | FLAC (pipe) | 44k | flac | ffmpeg -v error -i {i} -f flac - |cat > {o}
ffmpeg | MP3 | MP3 (pipe) | 44k | mp3 | ffmpeg -v error -i {i} -f mp3 - |cat > {o}
ffmpeg | Matroska | AAC (pipe) | 44k | mka | ffmpeg -v error -i {i} -c:a aac -f matroska - |cat > {o}
ffmpeg | WebM | Opus (pipe) | 48k | webm | ffmpeg -v error -i {i} -c:a libopus -f webm -live 1 - |cat > {o}
ffmpeg | FLV | AAC (pipe) | 44k | flv | ffmpeg -v error -i {i} -c:a aac -f flv - |cat > {o}
ffmpeg | ASF | WMA (pipe) | 44k | wma | ffmpeg -v error -i {i} -c:a wmav2 -f asf - |cat > {o}
ffmpeg | MP4 | AAC and video | 44k | mp4 | ffmpeg -v error {video} -i {i} -c:v mpeg4 -c:a aac -shortest {o}
ffmpeg | Matroska | Vorbis and video | 44k | mkv | ffmpeg -v error {video} -i {i} -c:v mpeg4 -c:a libvorbis -shortest {o}
ffmpeg | AVI | MP3 and video | 44k | avi | ffmpeg -v error {video} -i {i} -c:v mpeg4 -c:a libmp3lame -shortest {o}
ffmpeg | MPEG-TS | AAC and video | 44k | ts | ffmpeg -v error {video} -i {i} -c:v mpeg2video -c:a aac -shortest {o}
"""
GST = "gst-launch-1.0 -q filesrc location={i} ! wavparse ! audioconvert"
VIDEO = "-f lavfi -i testsrc=size=64x48:rate=10:duration=3"
# A microphone of ALSA that plays a file.
MICROPHONE = 'pcm.mic {{ type file slave.pcm {{ type null }} file /dev/null infile "{0}" format raw }}\n'

# container | codec | recording | extension | format and subtypes of libsndfile
LIBRARY = """
WAV | PCM | 16k | wav | WAV PCM_16 PCM_U8 PCM_24 PCM_32
WAV | PCM | 44k | wav | WAVEX PCM_16 PCM_24
WAV | float | 44k | wav | WAV FLOAT DOUBLE
WAV | A-law | 8k | wav | WAV ALAW
WAV | µ-law | 8k | wav | WAV ULAW
WAV | ADPCM (IMA) | 44k | wav | WAV IMA_ADPCM
WAV | ADPCM (Microsoft) | 44k | wav | WAV MS_ADPCM
WAV | ADPCM (G.721) | 8k | wav | WAV G721_32
WAV | ADPCM (NMS) | 8k | wav | WAV NMS_ADPCM_16 NMS_ADPCM_24 NMS_ADPCM_32
WAV | GSM 6.10 | 8k | wav | WAV GSM610
RF64 | PCM | 48k | rf64 | RF64 PCM_16 PCM_24
RF64 | float | 44k | rf64 | RF64 FLOAT
Wave64 | PCM | 44k | w64 | W64 PCM_16 PCM_24
Wave64 | µ-law | 8k | w64 | W64 ULAW
Wave64 | ADPCM (IMA) | 16k | w64 | W64 IMA_ADPCM
Wave64 | ADPCM (Microsoft) | 16k | w64 | W64 MS_ADPCM
Wave64 | GSM 6.10 | 8k | w64 | W64 GSM610
AIFF | PCM | 44k | aiff | AIFF PCM_16 PCM_24 PCM_S8 PCM_32
AIFF | float | 44k | aiff | AIFF FLOAT DOUBLE
AIFF | A-law | 8k | aiff | AIFF ALAW
AIFF | µ-law | 8k | aiff | AIFF ULAW
AIFF | ADPCM (IMA) | 44k | aiff | AIFF IMA_ADPCM
AIFF | DWVW | 16k | aiff | AIFF DWVW_16 DWVW_24
AIFF | GSM 6.10 | 8k | aiff | AIFF GSM610
AU | PCM | 44k | au | AU PCM_16 PCM_S8 PCM_24 PCM_32
AU | float | 44k | au | AU FLOAT DOUBLE
AU | A-law | 8k | au | AU ALAW
AU | µ-law | 8k | au | AU ULAW
AU | ADPCM (G.721) | 8k | au | AU G721_32
AU | ADPCM (G.723) | 8k | au | AU G723_24 G723_40
CAF | PCM | 44k | caf | CAF PCM_16 PCM_S8 PCM_24 PCM_32
CAF | float | 44k | caf | CAF FLOAT DOUBLE
CAF | A-law | 8k | caf | CAF ALAW
CAF | µ-law | 8k | caf | CAF ULAW
CAF | ALAC | 44k | caf | CAF ALAC_16 ALAC_24
FLAC | FLAC | 44k | flac | FLAC PCM_16 PCM_24
FLAC | FLAC | 8k | flac | FLAC PCM_S8
Ogg | Vorbis | 44k | ogg | OGG VORBIS
Ogg | Vorbis | 16k | ogg | OGG VORBIS
Ogg | Opus | 48k | opus | OGG OPUS
Ogg | Opus | 16k | opus | OGG OPUS
MP3 | MP3 | 44k | mp3 | MP3 MPEG_LAYER_III
MP3 | MP3 | 16k | mp3 | MP3 MPEG_LAYER_III
"""

# container | codec | recording | extension | format and encoder of FFmpeg | options of the format
FFMPEG = """
WAV | PCM | 44k | wav | wav pcm_s16le
WAV | PCM | 16k | wav | wav pcm_s24le | rf64=never
WAV | float | 48k | wav | wav pcm_f32le
WAV | A-law | 8k | wav | wav pcm_alaw
WAV | ADPCM (IMA) | 44k | wav | wav adpcm_ima_wav
WAV | ADPCM (Microsoft) | 16k | wav | wav adpcm_ms
WAV | MP3 | 44k | wav | wav libmp3lame
WAV | MP2 | 48k | wav | wav mp2
WAV | AC-3 | 48k | wav | wav ac3
RF64 | PCM | 44k | rf64 | wav pcm_s16le | rf64=always
Wave64 | PCM | 44k | w64 | w64 pcm_s16le
AIFF | PCM | 44k | aiff | aiff pcm_s16be
AIFF | PCM (AIFF-C) | 44k | aiff | aiff pcm_s16le
AIFF | µ-law | 8k | aiff | aiff pcm_mulaw
AU | PCM | 44k | au | au pcm_s16be
AU | A-law | 8k | au | au pcm_alaw
CAF | PCM | 44k | caf | caf pcm_s16le
CAF | ALAC | 44k | caf | caf alac
CAF | Opus | 48k | caf | caf libopus
CAF | ADPCM (IMA) | 44k | caf | caf adpcm_ima_qt
FLAC | FLAC | 44k | flac | flac flac
FLAC | FLAC | 8k | flac | flac flac
Ogg | Vorbis | 44k | ogg | ogg libvorbis
Ogg | Opus | 48k | opus | opus libopus
Ogg | Opus | 16k | opus | opus libopus
Ogg | FLAC | 44k | oga | oga flac
Ogg | Speex | 16k | spx | ogg libspeex
MP3 | MP3 | 44k | mp3 | mp3 libmp3lame
MP3 | MP3 (no length) | 44k | mp3 | mp3 libmp3lame | write_xing=0
MP3 | MP3 | 8k | mp3 | mp3 libmp3lame
MP2 | MP2 | 48k | mp2 | mp2 mp2
MP4 | AAC | 44k | m4a | ipod aac
MP4 | AAC | 16k | m4a | ipod aac | movflags=+faststart
MP4 | AAC | 8k | mp4 | mp4 aac
MP4 | AAC (fragmented) | 44k | mp4 | mp4 aac | movflags=+frag_keyframe+empty_moov frag_duration=500000
MP4 | ALAC | 44k | m4a | ipod alac
MP4 | MP3 | 44k | mp4 | mp4 libmp3lame
MP4 | Opus | 48k | mp4 | mp4 libopus
MP4 | FLAC | 44k | mp4 | mp4 flac
MP4 | AC-3 | 48k | mp4 | mp4 ac3
MOV | PCM | 44k | mov | mov pcm_s16le
MOV | AAC | 44k | mov | mov aac
MOV | ALAC | 44k | mov | mov alac
MOV | µ-law | 8k | mov | mov pcm_mulaw
MOV | ADPCM (IMA) | 44k | mov | mov adpcm_ima_qt
3GP | AMR-NB | 8k | 3gp | 3gp libopencore_amrnb
3GP | AAC | 16k | 3gp | 3gp aac
Matroska | AAC | 44k | mka | matroska aac
Matroska | Opus | 48k | mka | matroska libopus
Matroska | Vorbis | 44k | mka | matroska libvorbis
Matroska | FLAC | 44k | mka | matroska flac
Matroska | PCM | 44k | mka | matroska pcm_s16le
Matroska | MP3 | 44k | mka | matroska libmp3lame
Matroska | AC-3 | 48k | mka | matroska ac3
Matroska | ALAC | 44k | mka | matroska alac
WebM | Opus | 48k | webm | webm libopus
WebM | Vorbis | 44k | webm | webm libvorbis
ASF | WMA | 44k | wma | asf wmav2
ASF | WMA 1 | 44k | wma | asf wmav1
ASF | MP3 | 44k | asf | asf libmp3lame
ADTS | AAC | 44k | aac | adts aac
ADTS | AAC | 16k | aac | adts aac
AC-3 | AC-3 | 48k | ac3 | ac3 ac3
E-AC-3 | E-AC-3 | 48k | eac3 | eac3 eac3
AMR | AMR-NB | 8k | amr | amr libopencore_amrnb
DTS | DTS | 48k | dts | dts dca
TrueHD | TrueHD | 48k | thd | truehd truehd
VOC | PCM | 16k | voc | voc pcm_s16le
RealMedia | AC-3 | 44k | rm | rm ac3
WTV | MP2 | 48k | wtv | wtv mp2
WavPack | WavPack | 44k | wv | wv wavpack
TTA | TTA | 44k | tta | tta tta
AVI | PCM | 44k | avi | avi pcm_s16le
AVI | MP3 | 44k | avi | avi libmp3lame
AVI | AC-3 | 48k | avi | avi ac3
FLV | MP3 | 44k | flv | flv libmp3lame
FLV | AAC | 44k | flv | flv aac
MPEG-TS | AAC | 44k | ts | mpegts aac
MPEG-TS | MP2 | 48k | ts | mpegts mp2
MPEG-TS | AC-3 | 48k | ts | mpegts ac3
MPEG-PS | MP2 | 44k | mpg | mpeg mp2
Matroska | E-AC-3 | 48k | mka | matroska eac3
Matroska | DTS | 48k | mka | matroska dca
Matroska | WavPack | 44k | mka | matroska wavpack
"""


@dataclass(frozen=True)
class Sound:
    """A sound file, its writer, and how many frames at `rate_hz` the writer was given.

    `variant` in the codec, such as "PCM (pipe)", tells how the file was written.
    """

    path: Path
    container: str
    codec: str
    writer: str
    rate_hz: int
    channels: int
    frames: int

    @property
    def lossless(self) -> bool:
        """Whether the codec keeps the number of frames."""
        return self.codec.startswith(LOSSLESS) and "video" not in self.codec


@lru_cache
def recording(name: str) -> tuple[np.ndarray, int]:
    """Return the samples (n, channels) int16 and the rate in Hz of one of RECORDINGS."""
    source, rate_hz, channels, frames = RECORDINGS[name]
    samples, given_hz = soundfile.read(SAMPLES / source, always_2d=True)
    samples = samples if channels == 2 else samples.mean(axis=1, keepdims=True)
    samples = soxr.resample(samples, given_hz, rate_hz) if given_hz != rate_hz else samples
    samples = np.tile(samples, (-(-frames // len(samples)), 1))[:frames]
    return np.round(np.clip(samples, -0.99, 0.99) * 32767).astype(np.int16), rate_hz


def write_all(folder: Path, writers: Collection[str] = (), containers: Collection[str] = ()) -> Iterator[Sound]:
    """Write the files into `folder` and yield them; only those of some writers and containers, if
    given. A file that exists is not written again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in RECORDINGS:
        samples, rate_hz = recording(name)
        soundfile.write(folder / f"{name}.wav", samples, rate_hz, subtype="PCM_16")
        (folder / f"{name}.raw").write_bytes(samples.tobytes())
    recipes = [*_by_library(folder), *_by_pyav(folder), *_by_commands(folder)]
    for sound, make in recipes:
        wanted = (not writers or sound.writer in writers) and (not containers or sound.container in containers)
        if wanted and not sound.path.exists() and not make():
            sound.path.unlink(missing_ok=True)
        if wanted and sound.path.exists() and sound.path.stat().st_size:
            yield sound


def versions() -> dict[str, str]:
    """Return the version of each writer that is present."""
    import av

    found = {
        "libsndfile": soundfile.__libsndfile_version__,
        "PyAV": f"{av.__version__}, FFmpeg {av.ffmpeg_version_info}",
    }
    for name in sorted({row[0] for row in _rows(COMMANDS)}):
        program = _program(name)
        if shutil.which(program):
            for option in ("-version" if name == "ffmpeg" else "--version", "--help", "-V"):
                done = subprocess.run([program, option], capture_output=True, text=True, errors="replace")
                said = (done.stdout + done.stderr).replace(program, "")
                if match := re.search(r"(?<![\d.])v?(\d+\.\d+[\w.+-]*)", said):
                    found[name] = match[1]
                    break
    return found


Recipe = tuple[Sound, Callable[[], bool]]  # a file, and how to write it; False if that is not possible


def _by_commands(folder: Path) -> Iterator[Recipe]:
    rows = _rows(COMMANDS)
    for container, codec, name, extension, given, *options in _rows(FFMPEG):
        form, encoder = given.split()
        settings = "".join(f" -{key} {value}" for key, value in _options(options).items())
        command = f"ffmpeg -v error -i {{i}} -c:a {encoder} -strict -2{settings} -f {form} {{o}}"
        rows.append(["ffmpeg", container, codec, name, extension, command])
    for writer, container, codec, name, extension, command in rows:
        _, rate_hz, channels, frames = RECORDINGS[name]
        path = folder / _name(writer, container, codec, name, extension, command)
        given = {"i": folder / f"{name}.wav", "o": path, "rate": rate_hz, "channels": channels, "frames": frames}
        text = command.format(**given, gst=GST.format(**given), video=VIDEO)
        settings = folder / f"{name}.asoundrc"
        settings.write_text(MICROPHONE.format(folder / f"{name}.raw"), "utf-8")
        if shutil.which(_program(writer)):
            yield Sound(path, container, codec, writer, rate_hz, channels, frames), partial(_run, text, settings)


def _name(writer: str, container: str, codec: str, name: str, extension: str, *recipe: str) -> str:
    """Return the name of a file; the same for the same recipe."""
    words = re.sub(r"[^\w.]+", "_", "-".join((writer, container, codec, name)), flags=re.ASCII)
    return f"{words}-{zlib.crc32(' '.join(recipe).encode()) & 0xFFFF:04x}.{extension}"


def _program(writer: str) -> str:
    return "gst-launch-1.0" if writer == "gstreamer" else writer


def _run(command: str, settings: Path) -> bool:
    """Run a command line, with a microphone that plays a recording."""
    env = {**os.environ, "ALSA_CONFIG_PATH": str(settings)}
    done = subprocess.run(
        command, shell=True, env=env, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0


def _by_library(folder: Path) -> Iterator[Recipe]:
    for container, codec, name, extension, given in _rows(LIBRARY):
        form, *subtypes = given.split()
        samples, rate_hz = recording(name)
        for subtype in subtypes:
            path = folder / _name("libsndfile", container, codec, name, extension, form, subtype)
            sound = Sound(path, container, codec, "libsndfile", rate_hz, samples.shape[1], len(samples))
            # libsndfile does not scale integers that it stores as floats.
            scaled = samples / 32_768 if codec == "float" else samples
            yield sound, partial(_store, path, scaled, rate_hz, form, subtype)


def _store(path: Path, samples: np.ndarray, rate_hz: int, form: str, subtype: str) -> bool:
    soundfile.write(path, samples, rate_hz, format=form, subtype=subtype)
    return True


def _by_pyav(folder: Path) -> Iterator[Recipe]:
    from av.codec import codecs_available

    for container, codec, name, extension, given, *options in _rows(FFMPEG):
        form, encoder = given.split()
        if encoder not in codecs_available:
            encoder = encoder.removeprefix("lib")
        path = folder / _name("PyAV", container, codec, name, extension, given, *options)
        samples, rate_hz = recording(name)
        sound = Sound(path, container, codec, "PyAV", rate_hz, samples.shape[1], len(samples))
        yield sound, partial(_encode, path, samples, rate_hz, form, encoder, _options(options))


def _encode(path: Path, samples: np.ndarray, rate_hz: int, form: str, encoder: str, options: Mapping[str, str]) -> bool:
    """Write samples (n, channels) int16 with PyAV. Return whether it can."""
    import av

    layout = "stereo" if samples.shape[1] == 2 else "mono"
    try:
        with av.open(str(path), "w", format=form, container_options=dict(options)) as out:
            stream: Any = out.add_stream(encoder, rate=rate_hz, layout=layout)
            stream.codec_context.options = {"strict": "experimental"}
            if encoder.startswith("wma"):  # has no bit rate of its own for every kind of audio
                stream.codec_context.bit_rate = 128_000
            stream.codec_context.open()
            kinds = [each.name for each in stream.codec_context.codec.audio_formats or ()] or ["s16"]
            size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(stream.format.name if stream.format else kinds[0], layout, rate_hz, size)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "s16", layout)
            frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
            for converted in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(stream.encode(converted))
            out.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError):  # no such encoder, or not in this format
        return False
    return True


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(" | ")] for line in table.split("\n") if line]


def _options(options: list[str]) -> dict[str, str]:
    return dict(each.split("=", 1) for each in " ".join(options).split())
