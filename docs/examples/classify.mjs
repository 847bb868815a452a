// Speech or music? Runs a waveform model of ms-edge on ONNX Runtime for JavaScript:
//   node classify.mjs MODEL.onnx RECORDING.wav [onnxruntime-node | onnxruntime-web]
import { readFileSync } from "node:fs";

const [modelPath, wavPath, runtime = "onnxruntime-node"] = process.argv.slice(2);
const ort = await import(runtime); // both packages have the same API; a web page imports onnxruntime-web
const BATCH = 64; // windows in one call: memory stays the same however long the recording is
const SILENT = 10 ** (-70 / 20); // a window whose root mean square is below -70 dBFS does not count

const model = readFileSync(modelPath);
const [spec, labels, decision] = ["frontend", "labels", "decision"].map(metadata);
const [length, hop] = [spec.clip_s, spec.hop_s].map((seconds) => Math.round(seconds * spec.sample_rate_hz));
const windows = cut(samplesOf(readFileSync(wavPath))).filter((window) => rms(window) >= SILENT);

if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(model);
const scores = Object.fromEntries(labels.map((label) => [label, 0]));
for (let at = 0; at < windows.length; at += BATCH) {
  const batch = windows.slice(at, at + BATCH);
  const waveform = new Float32Array(batch.length * length);
  batch.forEach((window, i) => waveform.set(window, i * length));
  const found = await session.run({ waveform: new ort.Tensor("float32", waveform, [batch.length, length]) });
  found.scores.data.forEach((score, i) => (scores[labels[i % labels.length]] += score / windows.length));
}
console.log(JSON.stringify(windows.length ? { label: labelOf(scores), scores } : { label: "silence" }));

// The rule of the model: the labels over their thresholds, or else the largest score.
function labelOf(scores) {
  if (decision.kind === "exclusive") return labels.reduce((best, label) => (scores[label] > scores[best] ? label : best));
  return labels.filter((label, i) => scores[label] >= decision.thresholds[i]).join("+") || "other";
}

// An entry of the model file's metadata, which is JSON. In protobuf it is its key, the byte 0x12, the length
// of its value (7 bits a byte, lowest first), and its value. (The packages do not give it.)
function metadata(key) {
  let at = model.indexOf(`ms_edge.${key}\x12`) + `ms_edge.${key}\x12`.length;
  let size = 0;
  for (let shift = 0, more = true; more; shift += 7, more = model[at++] >= 128) size |= (model[at] & 127) << shift;
  return JSON.parse(model.toString("utf8", at, at + size));
}

// The samples of a WAV file, 16-bit mono PCM at the model's rate. Other chunks are skipped.
function samplesOf(wav) {
  for (let at = 12; at + 8 <= wav.length; at += 8 + wav.readUInt32LE(at + 4) + (wav.readUInt32LE(at + 4) & 1)) {
    const [name, body] = [wav.toString("latin1", at, at + 4), wav.subarray(at + 8, at + 8 + wav.readUInt32LE(at + 4))];
    if (name === "fmt ") {
      const found = [body.readUInt16LE(0), body.readUInt16LE(2), body.readUInt32LE(4), body.readUInt16LE(14)];
      const expected = [1, 1, spec.sample_rate_hz, 16];
      if (`${found}` !== `${expected}`) throw Error(`PCM, channels, Hz, bits are ${found}, not ${expected}`);
    }
    if (name === "data") return Float32Array.from({ length: body.length >> 1 }, (_, i) => body.readInt16LE(2 * i) / 32768);
  }
  throw Error(`${wavPath}: no WAV file with samples`);
}

// A window every hop and one at the end. A recording shorter than a window is repeated.
function cut(samples) {
  if (samples.length < length) return [Float32Array.from({ length }, (_, i) => samples[i % samples.length])];
  const starts = Array.from({ length: 1 + Math.floor((samples.length - length) / hop) }, (_, i) => i * hop);
  if (starts.at(-1) + length < samples.length) starts.push(samples.length - length);
  return starts.map((start) => samples.subarray(start, start + length));
}

function rms(window) {
  return Math.sqrt(window.reduce((sum, x) => sum + x * x, 0) / window.length);
}
