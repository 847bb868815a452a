// Speech or music? A waveform model of ms-export on onnxruntime-web: node classify.mjs MODEL.onnx RECORDING.wav
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [modelPath, wavPath] = process.argv.slice(2);
const model = readFileSync(modelPath);
const [spec, labels, decision] = ["frontend", "labels", "decision"].map(metadata);
const [clip, hop] = [spec.clip_s, spec.hop_s].map((seconds) => Math.round(seconds * spec.sample_rate_hz));
const windows = cut(samplesOf(readFileSync(wavPath))).filter((window) => rms(window) >= 10 ** (-70 / 20));

ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(model);
const waveform = Float32Array.from(windows.flatMap((window) => [...window]));
const result = await session.run({ waveform: new ort.Tensor("float32", waveform, [windows.length, clip]) });
const means = labels.map((_, j) => windows.reduce((sum, _, i) => sum + result.scores.data[i * labels.length + j], 0) / windows.length);
const over = labels.filter((_, j) => means[j] >= decision.thresholds[j]).join("+") || "other";
const label = decision.kind === "independent" ? over : labels[means.indexOf(Math.max(...means))];
const scores = Object.fromEntries(labels.map((name, j) => [name, means[j]]));
console.log(JSON.stringify(windows.length ? { label, scores } : { label: "silence" }));

// A model file says of itself, in protobuf: the key, 0x12, the length of the value (7 bits a byte, lowest first), the value.
function metadata(key) {
  let at = model.indexOf(`ms_edge.${key}\x12`) + `ms_edge.${key}\x12`.length;
  let length = 0;
  for (let shift = 0, more = true; more; shift += 7, more = model[at++] >= 128) length |= (model[at] & 127) << shift;
  return JSON.parse(model.toString("utf8", at, at + length));
}

// 16-bit mono PCM at the model's rate as floats; other chunks than the format and the samples are passed over.
function samplesOf(wav) {
  for (let at = 12, size; ; at += 8 + size + (size & 1)) {
    size = wav.readUInt32LE(at + 4);
    const name = wav.toString("latin1", at, at + 4);
    const format = [wav.readUInt16LE(at + 8), wav.readUInt16LE(at + 10), wav.readUInt32LE(at + 12), wav.readUInt16LE(at + 22)];
    const expected = [1, 1, spec.sample_rate_hz, 16];
    if (name === "fmt " && `${format}` !== `${expected}`) throw Error(`PCM, channels, Hz, bits are ${format}, not ${expected}`);
    if (name === "data") return Float32Array.from({ length: size >> 1 }, (_, i) => wav.readInt16LE(at + 8 + 2 * i) / 32768);
  }
}

// A window every hop, the last one at the end; what is shorter than one is repeated.
function cut(samples) {
  if (samples.length < clip) return [Float32Array.from({ length: clip }, (_, i) => samples[i % samples.length])];
  const starts = Array.from({ length: 1 + Math.floor((samples.length - clip) / hop) }, (_, i) => i * hop);
  if (starts.at(-1) + clip < samples.length) starts.push(samples.length - clip);
  return starts.map((start) => samples.subarray(start, start + clip));
}

function rms(window) {
  return Math.sqrt(window.reduce((sum, x) => sum + x * x, 0) / window.length);
}
