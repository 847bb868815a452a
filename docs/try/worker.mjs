// Classify recordings beside the page, which stays responsive: windows, scores, segments.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { halfEven, rounded, secondsByLabel, segments, probabilityOf, vote } from "./timeline.mjs";
import { openWav } from "./wav.mjs";

const BATCH = 64; // windows in one call of the model
ort.env.wasm.numThreads = 1; // more need headers of the server (cross-origin isolation)

const session = fetch(new URL("music-speech-waveform.onnx", import.meta.url))
  .then((answer) => (answer.ok ? answer.arrayBuffer() : Promise.reject(new Error(`${answer.status} ${answer.url}`))))
  .then((bytes) => ort.InferenceSession.create(new Uint8Array(bytes)));
session.then(() => postMessage({ ready: true }), (error) => postMessage({ broken: String(error) }));

let current = 0; // the number of the recording that is worked on; another number ends that

// A message is {number, rules} with a WAV `file` at the rate of the model, or with `channels`, arrays of samples at
// that rate; or it is {number} alone, to end what is going on. Answers have the same number.
addEventListener("message", async ({ data }) => {
  current = data.number;
  if (!data.rules) return;
  try {
    await classify(data);
  } catch (error) {
    postMessage({ number: data.number, failed: String(error) });
  }
});

async function classify({ number, file, channels, rules }) {
  const audio = channels ? decoded(channels) : await openWav(file);
  const duration = audio.frames / rules.rate;
  if (duration < rules.min_duration_s) return postMessage({ number, short: duration });
  const { clip, hop, labels } = rules, starts = windowStarts(audio.frames, clip, hop);
  const scores = new Float32Array(starts.length * labels.length), silent = new Uint8Array(starts.length);
  const peaks = peaksOf(audio.frames, rules);
  for (let at = 0; at < starts.length; at += BATCH) {
    const batch = starts.slice(at, at + BATCH), first = batch[0];
    const samples = await audio.read(first, Math.min(audio.frames, batch.at(-1) + clip) - first);
    const waveform = new Float32Array(batch.length * clip);
    batch.forEach((start, i) => {
      const window = waveform.subarray(i * clip, (i + 1) * clip);
      // A recording that is shorter than a window is repeated.
      for (let filled = 0; filled < clip; filled += samples.length) {
        window.set(samples.subarray(start - first, start - first + clip - filled), filled);
      }
      silent[at + i] = isSilent(window, rules.silent_mean_square);
    });
    peaks.add(samples, first);
    const feeds = { waveform: new ort.Tensor("float32", waveform, [batch.length, clip]) };
    scores.set((await (await session).run(feeds)).scores.data, at * labels.length);
    await new Promise((resolve) => setTimeout(resolve)); // so that a message can end this
    if (current !== number) return;
    postMessage({ number, share: (at + batch.length) / starts.length });
  }
  const borders = bordersOf(starts, audio.frames, rules);
  const parts = segments(scores, silent, borders, rules);
  const means = meanScores(scores, silent, labels), label = vote(parts, means, rules.decision);
  postMessage({
    number, label, probability: probabilityOf(label, means), scores: means, seconds: secondsByLabel(parts),
    duration: rounded(duration), segments: parts, windows: scores, peaks: peaks.values,
    centres: [starts[0], starts[1] ?? 0, starts.at(-1)].map((start) => Math.min(duration, (start + clip / 2) / rules.rate)),
  });
}

/** Return the mean of some channels, as samples like those of a WAV file. */
function decoded(channels) {
  const read = async (start, count) => {
    const found = new Float32Array(count);
    for (const channel of channels) for (let i = 0; i < count; i++) found[i] += channel[start + i] / channels.length;
    return found;
  };
  return { frames: channels[0].length, read };
}

/** Return the first samples of the windows: one every hop, and one that ends with the recording. */
function windowStarts(frames, clip, hop) {
  if (frames <= clip) return [0];
  const starts = Array.from({ length: 1 + Math.floor((frames - clip) / hop) }, (_, i) => i * hop);
  if (starts.at(-1) + clip < frames) starts.push(frames - clip);
  return starts;
}

function isSilent(window, meanSquare) {
  let sum = 0;
  for (let i = 0; i < window.length; i++) sum += window[i] * window[i];
  return sum < window.length * meanSquare;
}

/** Return the times between windows, to the millisecond: half way between their middles. */
function bordersOf(starts, frames, { clip, rate }) {
  const between = starts.slice(1).map((start, i) => Math.floor((start + starts[i] + clip) / 2));
  const inner = between.map((at) => halfEven((at / rate) * 1000) / 1000);
  return [0, ...inner, rounded(frames / rate)];
}

/** Return the mean probability of each label, over the windows that are not silent if there are any. */
function meanScores(scores, silent, labels) {
  const all = silent.every(Boolean), sums = labels.map(() => 0);
  let count = 0;
  silent.forEach((quiet, i) => {
    if (quiet && !all) return;
    count += 1;
    labels.forEach((_, label) => { sums[label] += scores[i * labels.length + label]; });
  });
  return Object.fromEntries(labels.map((label, i) => [label, sums[i] / count]));
}

/** Return the largest magnitude in each short stretch of time, 255 for full scale, as edge/ms_edge/report/sound.py. */
function peaksOf(frames, { peaks, rate }) {
  let bin = Math.max(1, Math.round(peaks.bin_s * rate));
  while (frames / bin > peaks.most) bin *= 2;
  const values = new Uint8Array(Math.ceil(frames / bin));
  const add = (samples, first) => samples.forEach((sample, i) => {
    const at = Math.floor((first + i) / bin);
    values[at] = Math.max(values[at], Math.round(Math.min(Math.abs(sample), 1) * 255));
  });
  return { values, add };
}
