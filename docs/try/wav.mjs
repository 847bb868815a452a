// Read the samples of WAV files of PCM as ms-edge does. Browsers resample what they decode, and decode all at once.
// Source: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0 (RIFF).

const PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe; // the tag of an extensible header follows it, at byte 24
const ENDLESS = 0x7fff0000; // sizes from here on: the writer did not know it; as in edge/ms_edge/audio/riff.py
const MOST_CHUNKS = 1000;
const LOWEST_RATE = 4000, HIGHEST_RATE = 384000; // Hz
const READERS = {
  "1 8": (view, at) => (view.getUint8(at) - 128) / 128,
  "1 16": (view, at) => view.getInt16(at, true) / 32768,
  "1 24": (view, at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 8388608,
  "1 32": (view, at) => view.getInt32(at, true) / 2147483648,
  "3 32": (view, at) => view.getFloat32(at, true),
  "3 64": (view, at) => view.getFloat64(at, true),
};

/**
 * Return what a WAV file (Blob) of PCM or float holds, or null if it is no such file:
 *
 * {rate, frames, cut, read, piece}: its sample rate and number of samples; whether it ends before they do; a function
 * read(start, count) that returns some of them, as a Float32Array of the mean of all channels; and a function
 * piece(start, count) that returns a WAV file of some of them.
 */
export async function openWav(file) {
  const view = async (start, count) => new DataView(await file.slice(start, start + count).arrayBuffer());
  const text = (bytes, at) => String.fromCharCode(...new Uint8Array(bytes.buffer, at, 4));
  const start = await view(0, 12);
  if (start.byteLength < 12 || text(start, 0) !== "RIFF" || text(start, 8) !== "WAVE") return null;
  let form = null;
  for (let at = 12, chunk = 0; chunk < MOST_CHUNKS; chunk++) {
    const head = await view(at, 8 + 40);
    if (head.byteLength < 8) return null;
    const name = text(head, 0), size = head.getUint32(4, true);
    if (name === "data") return form && samples(file, view, form, at + 8, size);
    if (name === "fmt " && head.byteLength >= 24 && !form) {
      form = format(head, size);
      if (!form) return null;
      form.chunk = file.slice(at, at + 8 + size);
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

/** Return what a format chunk states, or null for a coding that is no PCM. */
function format(head, size) {
  const tag = head.getUint16(8, true), channels = head.getUint16(10, true), bits = head.getUint16(22, true);
  const coding = tag === EXTENSIBLE && size >= 40 && head.byteLength >= 48 ? head.getUint16(32, true) : tag;
  const value = READERS[`${coding} ${bits}`];
  const whole = channels > 0 && head.getUint16(20, true) === channels * (bits / 8);
  const rate = head.getUint32(12, true), plausible = rate >= LOWEST_RATE && rate <= HIGHEST_RATE;
  return value && whole && plausible ? { value, channels, bytes: bits / 8, rate, integers: coding === PCM } : null;
}

function samples(file, view, { value, channels, bytes, rate, integers, chunk }, begin, size) {
  const there = file.size - begin, endless = size === 0 || (size >= ENDLESS && size > there), frame = channels * bytes;
  const frames = Math.floor(Math.min(endless ? there : size, there) / frame);
  const finite = integers ? (x) => x : (x) => (Number.isFinite(x) ? x : 0); // ms-edge: other numbers count as silence
  const read = async (start, count) => {
    const data = await view(begin + start * frame, count * frame);
    const found = new Float32Array(count);
    for (let i = 0, at = 0; i < count; i++) {
      let sum = 0;
      for (let channel = 0; channel < channels; channel++, at += bytes) sum += finite(value(data, at));
      found[i] = sum / channels;
    }
    return found;
  };
  const piece = (start, count) => {
    const [all, own] = [4 + chunk.size + 8 + count * frame, count * frame].map((bytes) => Uint32Array.of(bytes));
    return new Blob(["RIFF", all, "WAVE", chunk, "data", own, file.slice(begin + start * frame, begin + (start + count) * frame)]);
  };
  return { rate, frames, cut: !endless && size > there, read, piece };
}
