// From the scores of windows to segments: edge/ms_edge/timeline.py, whose comments explain it, in JavaScript.
// Functions have its names and its order of operations, so that the same scores give the same segments.
// The constants come from there, too (`rules`, see docs/try_page.py).

const SILENCE = "silence", OTHER = "other";

/**
 * Return the segments of a recording, [{start, end, label, probability, scores}], times in seconds.
 *
 * `scores` (Float32Array, windows x labels) are probabilities; `silent` (windows) says which windows are silent.
 * Window i stands for the time from `borders[i]` to `borders[i + 1]`, in seconds.
 */
export function segments(scores, silent, borders, rules) {
  const count = silent.length, width = rules.labels.length;
  const own = Array.from({ length: count }, (_, i) => (silent[i] ? SILENCE : windowLabel(scores, i * width, rules)));
  let starts = changes(own), names = starts.map((at) => own[at]);
  const smooth = rules.min_segment_s > 0 && starts.length > 1;
  if (smooth) {
    const states = [...new Set(names)];
    const costs = states.map((state) => (state === SILENCE ? rules.prior.to_silence : rules.prior.change));
    const path = bestPath(logProbabilities(states, scores, silent, borders, rules), borders, rules.min_segment_s, costs);
    starts = changes(path);
    names = starts.map((at) => states[path[at]]);
  }
  const ends = [...starts.slice(1), count];
  let edges = [...starts, count].map((at) => borders[at]);
  if (smooth) edges = moved(edges, names, rules);
  return names.map((label, i) => {
    const means = meanScores(scores, silent, borders, starts[i], ends[i], width);
    const named = Object.fromEntries(rules.labels.map((name, column) => [name, means[column]]));
    return { start: edges[i], end: edges[i + 1], label, probability: probabilityOf(label, named), scores: named };
  });
}

/** Return the label for the scores of one window, which begin at `at`. */
function windowLabel(scores, at, { labels, decision }) {
  const row = scores.subarray(at, at + labels.length);
  if (decision.kind === "exclusive") return labels[row.indexOf(Math.max(...row))];
  return labels.filter((_, i) => row[i] >= Math.fround(decision.thresholds[i])).join("+") || OTHER;
}

/** Return the probability of a label, given the scores of the model's labels. */
export function probabilityOf(label, scores) {
  if (Object.hasOwn(scores, label)) return scores[label];
  if (label === SILENCE) return 1;
  if (label === OTHER) return 1 - Math.max(...Object.values(scores));
  return Math.min(...label.split("+").map((name) => scores[name]));
}

/** Return the label of a recording, given its segments and its mean scores. */
export function vote(parts, scores, decision) {
  const seconds = secondsByLabel(parts.filter((part) => part.label !== SILENCE));
  const labels = Object.keys(seconds);
  if (!labels.length) return SILENCE;
  const best = (value) => labels.reduce((found, label) => (value(label) > value(found) ? label : found));
  if (decision.kind === "exclusive") return best((label) => scores[label]);
  const most = Math.max(...Object.values(seconds));
  return best((label) => (seconds[label] === most ? probabilityOf(label, scores) : -1));
}

/** Return the total duration of the segments of each label, in seconds to the millisecond. */
export function secondsByLabel(parts) {
  const seconds = {};
  for (const { label, start, end } of parts) seconds[label] = (seconds[label] ?? 0) + end - start;
  for (const label of Object.keys(seconds)) seconds[label] = rounded(seconds[label]);
  return seconds;
}

/** Return a number to three decimals, as Python's round() does: the nearest, and of two the even one. */
export function rounded(value) {
  // Only multiples of 1/16 can lie exactly between two such numbers.
  return Number.isInteger(value * 16) ? halfEven(value * 1000) / 1000 : Number(value.toFixed(3));
}

/** Return the nearest whole number, and of two the even one. */
export function halfEven(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** Return the indices of values that differ from the one before; the first is 0. */
function changes(values) {
  const found = [0];
  for (let i = 1; i < values.length; i++) if (values[i] !== values[i - 1]) found.push(i);
  return found;
}

/** Return the mean scores of the windows from `start` to `end`, weighted by time; silent ones count if all are. */
function meanScores(scores, silent, borders, start, end, width) {
  const weight = (i) => (silent[i] ? 0 : borders[i + 1] - borders[i]);
  let total = 0;
  for (let i = start; i < end; i++) total += weight(i);
  const one = total === 0, sums = new Float64Array(width);
  for (let i = start; i < end; i++) {
    for (let label = 0; label < width; label++) sums[label] += scores[i * width + label] * (one ? 1 : weight(i));
  }
  return sums.map((sum) => sum / (one ? end - start : total));
}

/** Correct the edges of segments: windows have a label shortly before its sound begins and after it ends. */
function moved(edges, names, { min_segment_s, prior }) {
  const slack = names.map((_, i) => Math.max(0, edges[i + 1] - edges[i] - min_segment_s) / 2);
  const result = edges.slice();
  for (let i = 1; i < names.length; i++) {
    const before = names[i - 1], after = names[i];
    if (before === SILENCE || after === SILENCE) continue;
    const mean = (some, other) => {
      const only = some.split("+").filter((label) => !other.split("+").includes(label));
      return only.reduce((sum, label) => sum + (prior.beyond_s[label] ?? 0), 0) / Math.max(1, only.length);
    };
    const shift = mean(after, before) - mean(before, after);
    result[i] = rounded(edges[i] + Math.min(Math.max(shift, -slack[i - 1]), slack[i]));
  }
  return result;
}

/** Return how well each state fits each window, windows x states: log-probabilities times seconds. */
function logProbabilities(states, scores, silent, borders, { labels, decision, smoothing }) {
  const f = Math.fround, width = labels.length, count = silent.length; // float32, as in NumPy
  const low = f(smoothing.closest_to_certain), high = f(1 - smoothing.closest_to_certain);
  const logAddExp = (x) => f(Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x)))); // log(exp(0) + exp(x))
  const offsets = decision.thresholds.map((at) => f(Math.log(at) - Math.log1p(-at)));
  const members = states.map((state) => labels.map((label) => label === state || state.split("+").includes(label)));
  const result = new Float32Array(count * states.length);
  const yes = new Float32Array(width), no = new Float32Array(width);
  for (let i = 0; i < count; i++) {
    for (let label = 0; label < width; label++) {
      const p = Math.min(Math.max(scores[i * width + label], low), high);
      yes[label] = Math.log(p);
      no[label] = Math.log1p(-p);
      if (decision.kind === "independent") {
        const logit = f(f(yes[label] - no[label]) - offsets[label]);
        yes[label] = -logAddExp(-logit);
        no[label] = -logAddExp(logit);
      }
    }
    const seconds = f(borders[i + 1] - borders[i]);
    states.forEach((state, column) => {
      const at = i * states.length + column;
      if (state === SILENCE) {
        result[at] = silent[i] ? 0 : smoothing.log_silent_sound;
        return;
      }
      let fit = 0;
      for (let label = 0; label < width; label++) {
        if (members[column][label]) fit = f(fit + yes[label]);
        else if (decision.kind === "independent") fit = f(fit + no[label]);
      }
      result[at] = f(silent[i] ? smoothing.log_pause : fit) * seconds;
    });
  }
  return result;
}

/**
 * Return the state of each window on the most probable path: the largest sum of `evidence` (windows x states)
 * minus the costs of its changes, among the paths whose runs of one state last at least `shortest`.
 */
export function bestPath(evidence, borders, shortest, costs) {
  const states = costs.length, windows = evidence.length / states;
  let sums = new Array(states).fill(0), totals = sums;
  const near = [{ here: borders[0], border: 0, ways: sums, then: sums }];
  let nearest = 0; // the first of `near` that is still too near
  const lead = new Array(states).fill(-Infinity), leadFrom = new Array(states).fill(0);
  const begins = new Int32Array((windows + 1) * states), before = new Array(windows + 1);
  let best = -Infinity;
  for (let end = 1; end <= windows; end++) {
    const here = borders[end], row = (end - 1) * states;
    sums = sums.map((value, state) => value + evidence[row + state]);
    while (nearest < near.length && here - near[nearest].here >= shortest - 1e-9) {
      const { border, ways, then } = near[nearest];
      near[nearest++] = null;
      for (let state = 0; state < states; state++) {
        if (ways[state] - then[state] > lead[state]) {
          lead[state] = ways[state] - then[state];
          leadFrom[state] = border;
        }
      }
    }
    totals = lead.map((ahead, state) => ahead + sums[state]);
    best = Math.max(...totals);
    const left = totals.map((total, state) => total - costs[state]), bestLeft = Math.max(...left);
    near.push({ here, border: end, ways: costs.map((cost) => Math.max(bestLeft, best - cost)), then: sums });
    begins.set(leadFrom, end * states);
    before[end] = { likeliest: totals.indexOf(best), cheapest: left.indexOf(bestLeft), difference: best - bestLeft };
  }
  const path = new Int32Array(windows);
  if (best === -Infinity) return path.fill(sums.indexOf(Math.max(...sums)));
  for (let end = windows, state = totals.indexOf(best); end > 0; ) {
    const start = begins[end * states + state];
    path.fill(state, start, end);
    if (start === 0) break;
    const { likeliest, cheapest, difference } = before[start];
    end = start;
    state = difference > costs[state] ? likeliest : cheapest;
  }
  return path;
}
