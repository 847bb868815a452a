"use strict";

// The page of one recording: it plays, zooms and takes corrections. Without this script the page is
// still readable; without wavesurfer.js it has the picture and the player of the browser.

/** Bring the elements of recording.html to life. Return a function that ends that, before other elements take their place. */
function showRecording(data) {
  const audio = $("audio");
  const closed = new AbortController(); // ends what listens outside of the elements
  const SHORTEST_S = 0.01; // a segment that is cut to less disappears
  const MOST_PX_S = 300; // the closest zoom
  const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
  const WAVE = 72, TIER = 22, GAP = 4, SCORES = 64, LEVELS = 56, AXIS = 20; // px, as in drawing.py
  const MOST_UNDO = 200;
  const MOST_TOLD = 100; // segments that the picture names for readers of the screen, as in drawing.py

  // ---- Segments -----------------------------------------------------------------------------------
  // They cover the recording without gaps. `p` is the probability of the model, null if a person made
  // the segment. `reviewed` segments were corrected or confirmed. Segments are replaced, never changed.

  const found = data.segments.map(([start, end, label, p, level]) => ({ start, end, label, p, level, reviewed: false }));
  const leveled = found.some((each) => each.level); // the table has a column for the level of the music
  let segments = found;
  let chosen = null; // what is selected: {start, end, index}; index is null for a stretch of time
  const before = []; // earlier versions of `segments`, for undo

  /** Return the segments with another label from start to end. */
  function painted(all, start, end, label) {
    const pieces = [{ start, end, label, p: null, reviewed: true }];
    for (const each of all) {
      if (each.start < start) pieces.push({ ...each, end: Math.min(each.end, start) });
      if (each.end > end) pieces.push({ ...each, start: Math.max(each.start, end) });
    }
    return pieces.filter((each) => each.end - each.start >= SHORTEST_S).sort((a, b) => a.start - b.start);
  }

  /** Return the segments with other ends of one of them; its neighbours lose or get the time. */
  function moved(all, index, start, end) {
    const old = all[index], last = all.length - 1;
    const from = index === 0 ? old.start : start, to = index === last ? old.end : end;
    const others = all.filter((_, number) => number !== index);
    if (index > 0) others[index - 1] = { ...all[index - 1], end: Math.max(all[index - 1].end, from) };
    if (index < last) others[index] = { ...all[index + 1], start: Math.min(all[index + 1].start, to) };
    return painted(others, from, to, old.label);
  }

  /** Return the index of the segment at a time in seconds. */
  function indexAt(time) {
    let low = 0, high = segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (segments[middle].start <= time) low = middle; else high = middle - 1;
    }
    return low;
  }

  /** Return the label that the model gave to most of a stretch. */
  function labelBefore(start, end) {
    const held = new Map();
    for (const each of found) {
      const overlap = Math.min(each.end, end) - Math.max(each.start, start);
      if (overlap > 0) held.set(each.label, (held.get(each.label) ?? 0) + overlap);
    }
    return [...held].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "";
  }

  /** Take other segments, select the one at a time, keep them in the browser and show them. */
  function change(next, time, said) {
    before.push(segments);
    if (before.length > MOST_UNDO) before.shift();
    segments = next;
    save();
    showSegments();
    select(indexAt(time), false);
    say(`${said} ${summary()}`);
  }

  function summary() {
    const count = segments.filter((each) => each.reviewed).length;
    return `${count} segment${count === 1 ? "" : "s"} reviewed${kept ? ", kept in this browser" : ""}.`;
  }

  // ---- What the browser keeps ---------------------------------------------------------------------

  const KEY = `ms-edge ${data.path} ${JSON.stringify(data.file)} ${data.channel ?? ""}`;
  let kept = true;

  function save() {
    try {
      if (segments === found) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, JSON.stringify(segments));
      kept = true;
    } catch {
      kept = false; // full, or forbidden: corrections can still be downloaded
    }
  }

  function restore() {
    try {
      const stored = JSON.parse(localStorage.getItem(KEY));
      if (Array.isArray(stored) && stored.length && stored.every((each) => typeof each.label === "string")) {
        segments = stored;
        say(`Earlier corrections are restored: ${summary()}`);
      }
    } catch {
      kept = false;
    }
  }

  // ---- Text ---------------------------------------------------------------------------------------

  function clock(seconds) {
    const total = Math.round(seconds * 1000);
    const pad = (value, digits) => String(value).padStart(digits, "0");
    const h = Math.floor(total / 3600000), m = Math.floor(total / 60000) % 60, s = Math.floor(total / 1000) % 60;
    const rest = `${pad(s, h || m ? 2 : 1)}.${pad(total % 1000, 3)}`;
    return h ? `${h}:${pad(m, 2)}:${rest}` : m ? `${m}:${rest}` : rest;
  }

  const say = (text) => { $("status").textContent = text; };
  // ---- The table and the list of the least sure segments ------------------------------------------

  const body = $("segments").tBodies[0];
  let here = -1; // the row of the segment that is heard

  /** Show the segments, and keep the focus where it was: in the table, or in the list of the least sure. */
  function showSegments() {
    const list = [body, $("review")].find((each) => each.contains(document.activeElement));
    renderSegments();
    const at = list === body ? body.rows[indexAt(now())] : list;
    at?.querySelector("button")?.focus({ preventScroll: true });
  }

  function renderSegments() {
    const rows = document.createDocumentFragment();
    segments.forEach((each, index) => {
      const was = each.reviewed ? labelBefore(each.start, each.end) : each.label;
      const label = element("td", {}, swatch(each.label), each.label);
      if (each.reviewed) label.append(element("small", {}, was === each.label ? " ✓" : ` ✓ was ${was}`));
      rows.append(element("tr", { "data-index": index },
        element("td", {}, element("button", { type: "button", class: "plain" }, clock(each.start))),
        element("td", {}, clock(each.end)), label, element("td", {}, each.p === null ? "by hand" : percent(each.p, 1)), ...(leveled ? [element("td", {}, each.level ?? "")] : [])));
    });
    body.replaceChildren(rows);
    here = -1;
    showReview();
    follow(false);
    $("undo").disabled = !before.length;
    draw();
    correctPicture();
  }

  let pictured = found; // the segments in the picture

  /** Draw the segments in the picture, too, which is printed, and shown if there is no wavesurfer.js. */
  function correctPicture() {
    const picture = document.querySelector("svg.timeline");
    if (!picture || pictured === segments) return;
    pictured = segments;
    for (const bar of picture.querySelectorAll(".bar, rect[fill^='url']")) bar.remove();
    for (const { start, end, label } of segments) {
      for (const row of rowsOf(label)) {
        const place = {
          x: percent(start / data.duration, 3), y: (data.peaks ? WAVE + GAP : 0) + row * (TIER + GAP),
          width: percent((end - start) / data.duration, 3), height: TIER,
        };
        picture.append(drawn("rect", { class: `bar ${cssClass(label)}`, ...place }));
        if (PATTERNS[label]) picture.append(drawn("rect", { fill: `url(#${PATTERNS[label]})`, ...place }));
      }
    }
    const told = segments.slice(0, MOST_TOLD).map(({ start, end, label }) => `${label} ${clock(start)} to ${clock(end)}`);
    picture.querySelector("title").textContent = `Timeline: ${told.join("; ")}`;
  }

  /** Return the rows of a label: those of the sounds that it names, or all of them if it names none. */
  function rowsOf(label) {
    const every = [...data.rows.keys()], named = every.filter((number) => label.split("+").includes(data.rows[number]));
    return named.length ? named : every;
  }

  function showReview() {
    const open = segments.map((each, index) => ({ ...each, index }))
      .filter((each) => !each.reviewed && each.p !== null && each.label !== "silence")
      .sort((a, b) => a.p - b.p).slice(0, data.review);
    $("review").replaceChildren(...open.map((each) => element("li", {}, element("button",
      { type: "button", class: "plain", "data-index": each.index },
      `${clock(each.start)} to ${clock(each.end)} `, swatch(each.label), `${each.label} ${percent(each.p, 0)}`))));
    if (!open.length) $("review").append(element("li", { class: "none" }, "Every segment is reviewed."));
  }

  /** Mark the row of the segment that is heard. */
  function follow(scroll) {
    const index = indexAt(now());
    if (index === here) return;
    body.rows[here]?.classList.remove("here");
    body.rows[here]?.removeAttribute("aria-current");
    here = index;
    const row = body.rows[index];
    row?.classList.add("here");
    row?.setAttribute("aria-current", "true");
    if (scroll && row) keepInView(row);
  }

  /** Scroll the table, and not the page, until a row is visible. */
  function keepInView(row) {
    const box = $("scroll"), head = $("segments").tHead.offsetHeight;
    if (row.offsetTop - head < box.scrollTop) box.scrollTop = row.offsetTop - head;
    const below = row.offsetTop + row.offsetHeight - box.clientHeight;
    if (below > box.scrollTop) box.scrollTop = below;
  }

  /** Select a segment, and go to its start if `seek` is set. */
  function select(index, seek = true) {
    const each = segments[Math.min(Math.max(index, 0), segments.length - 1)];
    chosen = { start: each.start, end: each.end, index: segments.indexOf(each) };
    for (const row of body.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
    const row = body.rows[chosen.index];
    row.classList.add("chosen");
    keepInView(row);
    if (seek) goTo(each.start);
    markChosen();
    draw();
  }

  // ---- Playing ------------------------------------------------------------------------------------

  let still = 0; // the position without a player
  let looping = false;
  const now = () => (audio ? audio.currentTime : still);

  function goTo(time) {
    const at = Math.min(Math.max(time, 0), data.duration);
    if (audio) audio.currentTime = at; else still = at;
    follow(true);
    reveal(at);
    draw();
  }

  function playOrPause() {
    if (!audio) return say("There is no recording to play.");
    if (!audio.paused) return audio.pause();
    if (looping && chosen && !(now() >= chosen.start && now() < chosen.end)) goTo(chosen.start);
    audio.play().catch(() => {}); // the event `error` says why
  }

  function loop(on) {
    looping = on;
    $("loop").setAttribute("aria-pressed", String(on));
    if (on && !chosen) select(indexAt(now()));
  }

  function tick() {
    if (looping && chosen && now() >= chosen.end - 0.005) audio.currentTime = chosen.start;
    follow(true);
    draw();
    if (!audio.paused && !audio.ended) requestAnimationFrame(tick);
  }

  if (audio) {
    audio.addEventListener("play", () => requestAnimationFrame(tick));
    audio.addEventListener("seeked", () => { follow(true); draw(); });
    audio.addEventListener("timeupdate", () => { follow(!audio.paused); });
    audio.addEventListener("ended", () => { if (looping && chosen) { audio.currentTime = chosen.start; audio.play(); } });
    audio.addEventListener("error", () => {
      $("trouble").textContent = "The recording cannot be played: it is no longer where it was, or this browser " +
        "does not play its format. Everything else on this page works.";
      $("trouble").hidden = false;
    });
  }

  // ---- The picture: the waveform of wavesurfer.js, and rows drawn here -----------------------------

  /** Return bytes, which a page holds as base64. */
  const bytes = (given) => (typeof given === "string" ? Uint8Array.from(atob(given), (each) => each.charCodeAt(0)) : given);
  const scores = data.scores && bytes(data.scores);
  const levels = data.levels && bytes(data.levels); // of the music, 1 for -30 dB to 255 for 20 dB; 0 for none
  const canvas = $("canvas");
  let wave = null, regions = null, region = null, adding = false;
  let asked = false; // a drawing is due

  /** Return the time at the left edge and the number of pixels of a second. */
  function view() {
    const width = canvas.clientWidth;
    const pxS = Math.max(wave.options.minPxPerSec || 0, width / data.duration);
    return { width, pxS, start: wave.getScroll() / pxS };
  }

  function colours() {
    const style = getComputedStyle(document.documentElement), probe = $("probe"), result = {};
    for (const name of ["ground", "panel", "ink", "soft", "line", "cursor", "mark", "wave", "link"]) {
      result[name] = style.getPropertyValue(`--${name}`).trim();
    }
    result.of = (label) => {
      probe.className = cssClass(label);
      return (result[label] ??= getComputedStyle(probe).getPropertyValue("--label").trim() ||
        style.getPropertyValue("--other").trim());
    };
    return result;
  }
  let colour = colours();

  function draw() {
    if (!wave || asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; drawNow(); });
  }

  function drawNow() {
    const { width, pxS, start } = view(), ratio = devicePixelRatio || 1;
    const tiers = data.rows.length * (TIER + GAP), curves = SCORES + GAP + (levels ? LEVELS + GAP : 0), height = tiers + curves + AXIS;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const x = (time) => (time - start) * pxS, end = start + width / pxS;
    for (let index = indexAt(start); index < segments.length && segments[index].start < end; index++) {
      drawSegment(pen, segments[index], x);
    }
    pen.fillStyle = colour.panel;
    pen.fillRect(0, tiers, width, SCORES);
    data.rows.forEach((row, number) => drawScores(pen, row, number, x, start, end, tiers));
    if (levels) drawLevels(pen, x, start, end, tiers + SCORES + GAP);
    drawAxis(pen, x, start, end, pxS, tiers + curves);
    if (chosen) {
      pen.strokeStyle = colour.link;
      pen.lineWidth = 2;
      pen.strokeRect(x(chosen.start) + 1, 1, Math.max(2, (chosen.end - chosen.start) * pxS - 2), tiers - GAP - 2);
    }
    pen.fillStyle = colour.cursor;
    pen.fillRect(x(now()) - 0.75, 0, 1.5, tiers + curves - GAP);
  }

  function drawSegment(pen, each, x) {
    const left = x(each.start), width = Math.max(1, x(each.end) - left - 1);
    for (const number of rowsOf(each.label)) {
      const top = number * (TIER + GAP);
      pen.fillStyle = colour.of(each.label);
      pen.fillRect(left, top, width, TIER);
      pen.save();
      pen.beginPath();
      pen.rect(left, top, width, TIER);
      pen.clip();
      drawPattern(pen, each.label, Math.max(left, -20), Math.min(left + width, canvas.clientWidth + 20), top);
      pen.restore();
    }
  }

  /** Draw the pattern of a label, as in drawing.py. */
  function drawPattern(pen, label, left, right, top) {
    pen.strokeStyle = pen.fillStyle = colour.mark;
    if (label.split("+").includes("music")) {
      pen.lineWidth = 2;
      pen.beginPath();
      for (let at = Math.floor(left / 10) * 10; at < right + TIER; at += 10) {
        pen.moveTo(at, top);
        pen.lineTo(at - TIER, top + TIER);
      }
      pen.stroke();
    } else if (label === "other") {
      for (let at = Math.floor(left / 6) * 6; at < right; at += 6) {
        for (let y = top + 3; y < top + TIER; y += 6) pen.fillRect(at, y, 2, 2);
      }
    }
  }

  /** Return the windows of a stretch of time: the first, the last, how many share a pixel, and their times. */
  function windowsOf(start, end) {
    const [first, second, last] = data.centres, count = scores.length / data.rows.length;
    const hop = Math.max(second - first, 1e-3);
    const time = (index) => (index === count - 1 ? last : first + index * hop);
    const from = Math.max(0, Math.floor((start - first) / hop) - 1);
    const to = Math.min(count - 1, Math.ceil((end - first) / hop) + 1);
    return { from, to, step: Math.max(1, Math.floor((to - from) / canvas.clientWidth)), time, count };
  }

  /** Draw the curve of a row: the mean of the windows of each pixel, or every window. */
  function drawScores(pen, row, number, x, start, end, top) {
    const { from, to, step, time, count } = windowsOf(start, end);
    pen.strokeStyle = colour.of(row);
    pen.lineWidth = 1.5;
    pen.setLineDash(row === "music" ? [5, 2] : []);
    pen.beginPath();
    for (let index = from; index <= to; index += step) {
      const until = Math.min(index + step, count);
      let sum = 0;
      for (let each = index; each < until; each++) sum += scores[each * data.rows.length + number];
      pen.lineTo(x(time(index)), top + 1 + (SCORES - 2) * (1 - sum / (until - index) / 255));
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  /** Draw the level of the music relative to the speech where both are, and a line at -20 dB. */
  function drawLevels(pen, x, start, end, top) {
    const { from, to, step, time } = windowsOf(start, end);
    pen.fillStyle = colour.panel;
    pen.fillRect(0, top, canvas.clientWidth, LEVELS);
    pen.strokeStyle = colour.soft;
    pen.lineWidth = 1;
    pen.setLineDash([2, 3]);
    pen.beginPath();
    pen.moveTo(0, top + LEVELS * 0.8);
    pen.lineTo(canvas.clientWidth, top + LEVELS * 0.8);
    pen.stroke();
    pen.setLineDash([]);
    pen.strokeStyle = colour.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    let drawing = false;
    for (let index = from; index <= to; index += step) {
      if (levels[index]) {
        const y = top + 1 + (LEVELS - 2) * (1 - (levels[index] - 1) / 254);
        if (drawing) pen.lineTo(x(time(index)), y); else pen.moveTo(x(time(index)), y);
      }
      drawing = levels[index] > 0;
    }
    pen.stroke();
  }

  function drawAxis(pen, x, start, end, pxS, top) {
    const step = TICKS_S.find((each) => each * pxS >= 70) ?? 70 / pxS;
    pen.fillStyle = colour.soft;
    pen.strokeStyle = colour.line;
    pen.lineWidth = 1;
    pen.font = "11px system-ui, sans-serif";
    for (let number = Math.ceil(start / step); number * step <= end; number++) {
      const at = Math.round(x(number * step));
      pen.fillRect(at, top - 2, 1, 4);
      const text = step < 1 ? clock(number * step).replace(/0{1,2}$/, "") : clock(number * step).slice(0, -4);
      const width = pen.measureText(text).width;
      if (at + width / 2 < canvas.clientWidth) pen.fillText(text, Math.max(0, at - width / 2), top + 15);
    }
  }

  /** Scroll until a time is visible. */
  function reveal(time) {
    if (!wave) return;
    const { width, pxS, start } = view();
    if (time < start || time > start + width / pxS) wave.setScrollTime(Math.max(0, time - width / pxS / 4));
  }

  /** Zoom by a factor; 0 shows the whole recording. The cursor stays where it is, if it is visible. */
  function zoom(factor) {
    if (!wave) return;
    const old = view(), inside = now() >= old.start && now() <= old.start + old.width / old.pxS;
    const pivot = inside ? now() : old.start + old.width / old.pxS / 2;
    const next = Math.min(Math.max(old.pxS * factor, old.width / data.duration), Math.max(MOST_PX_S, old.width / data.duration));
    wave.zoom(next);
    wave.setScrollTime(Math.max(0, pivot - (pivot - old.start) * old.pxS / next));
    draw();
  }

  /** Show the selection on the waveform, where its ends can be dragged. */
  function markChosen() {
    if (!regions) return;
    region?.remove();
    adding = true; // `region-created` comes from here, not from a drag
    region = chosen && regions.addRegion({
      start: chosen.start, end: chosen.end, drag: false, resize: true, minLength: SHORTEST_S, color: tint(),
    });
    adding = false;
    if (region) letThrough(region);
  }

  /** Let a drag begin inside a region, to select a part of it. Its ends can still be dragged. */
  function letThrough(made) {
    made.element.style.pointerEvents = "none";
    for (const handle of made.element.children) handle.style.pointerEvents = "auto";
  }

  const tint = () => `color-mix(in srgb, ${colour.link} 22%, transparent)`;

  function startWave() {
    if (!window.WaveSurfer || !data.peaks) return;
    document.querySelector(".timeline")?.setAttribute("hidden", "");
    $("live").hidden = false;
    const peaks = Float32Array.from(bytes(data.peaks), (value) => value / 255);
    const nonce = document.querySelector("style").nonce;
    regions = WaveSurfer.Regions.create();
    wave = WaveSurfer.create({
      container: $("wave"), height: WAVE, waveColor: colour.wave, progressColor: colour.wave, cursorColor: colour.cursor,
      cursorWidth: 1.5, peaks: [peaks], duration: data.duration, cspNonce: nonce, plugins: [regions], normalize: false,
      autoScroll: true, autoCenter: false, ...(audio ? { media: audio } : {}),
    });
    wave.on("error", () => {}); // the event of the player says why
    for (const event of ["scroll", "redraw", "zoom", "ready", "resize"]) wave.on(event, draw);
    wave.on("interaction", (time) => {
      if (!audio) still = time;
      const inside = chosen && time >= chosen.start && time <= chosen.end;
      if (!inside) select(indexAt(time), false);
    });
    regions.enableDragSelection({ color: tint() });
    regions.on("region-created", (made) => {
      if (adding) return;
      region?.remove();
      region = made;
      letThrough(made);
      chosen = { start: made.start, end: made.end, index: null };
      say(`${clock(made.start)} to ${clock(made.end)} is selected; give it a label.`);
      draw();
    });
    regions.on("region-updated", (made) => {
      if (made !== region) return;
      const { start, end } = made, index = chosen.index;
      chosen = { start, end, index };
      if (index !== null) change(moved(segments, index, start, end), (start + end) / 2, "The ends are moved.");
      else draw();
    });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => {
      colour = colours();
      wave.setOptions({ waveColor: colour.wave, progressColor: colour.wave, cursorColor: colour.cursor });
      draw();
    }, { signal: closed.signal });
    canvas.addEventListener("click", (event) => {
      const { pxS, start } = view(), time = start + event.offsetX / pxS;
      select(indexAt(time), false);
      goTo(time);
    });
    new ResizeObserver(() => {
      if (!$("wave").offsetHeight) return; // hidden, in print
      document.querySelector(".names .wave").style.height = `${$("wave").offsetHeight}px`; // with its scrollbar
      draw();
    }).observe($("live"));
  }

  // ---- Corrections --------------------------------------------------------------------------------

  function give(label) {
    if (!label) return;
    if (!chosen) select(indexAt(now()), false);
    const { start, end } = chosen;
    change(painted(segments, start, end, label), (start + end) / 2, `${clock(start)} to ${clock(end)} is ${label}.`);
  }

  function confirmLabel() {
    if (!chosen) return select(indexAt(now()));
    if (chosen.index === null) return say("Give the selection a label.");
    const index = chosen.index, next = segments.slice();
    next[index] = { ...next[index], reviewed: true };
    change(next, next[index].start, "Confirmed.");
  }

  function split() {
    const at = Math.round(now() * 1000) / 1000, index = indexAt(at), each = segments[index];
    if (at - each.start < SHORTEST_S || each.end - at < SHORTEST_S) return say("Put the cursor inside a segment to split it.");
    const next = segments.slice();
    next.splice(index, 1, { ...each, end: at }, { ...each, start: at });
    change(next, at, `Split at ${clock(at)}.`);
  }

  function join() {
    const index = chosen?.index ?? indexAt(now()), each = segments[index], other = segments[index + 1];
    if (!other) return say("There is no segment after this one.");
    const next = segments.slice();
    const same = each.label === other.label && !each.reviewed && !other.reviewed && each.p !== null && other.p !== null;
    const p = same ? (each.p * (each.end - each.start) + other.p * (other.end - other.start)) / (other.end - each.start) : null;
    next.splice(index, 2, { start: each.start, end: other.end, label: each.label, p, reviewed: !same });
    change(next, each.start, "Joined.");
  }

  function trim(toStart) {
    const at = Math.round(now() * 1000) / 1000, index = chosen?.index ?? indexAt(at), each = segments[index];
    const [start, end] = toStart ? [at, each.end] : [each.start, at];
    if (end - start < SHORTEST_S) return say("The start must be before the end.");
    change(moved(segments, index, start, end), (start + end) / 2, `${toStart ? "Starts" : "Ends"} at ${clock(at)}.`);
  }

  function undo() {
    if (!before.length) return;
    segments = before.pop();
    save();
    showSegments();
    select(indexAt(now()), false);
    say(`Undone. ${summary()}`);
  }

  function discard() {
    if (segments === found) return say("There are no corrections.");
    change(found, now(), "The corrections are discarded; undo brings them back.");
  }

  // ---- Downloads ----------------------------------------------------------------------------------

  /** Return UTF-8, in which the bytes of a name that is not Unicode are what they were. */
  function encoded(text) {
    const parts = [], encoder = new TextEncoder();
    for (const part of text.split(/([\udc80-\udcff])(?<![\ud800-\udbff]\1)/)) {
      const byte = part.length === 1 && part >= "\udc80" && part <= "\udcff";
      parts.push(byte ? Uint8Array.of(part.charCodeAt(0) - 0xdc00) : encoder.encode(part));
    }
    return parts;
  }

  function download(suffix, text) {
    const address = URL.createObjectURL(new Blob(encoded(text), { type: "text/plain;charset=utf-8" }));
    const name = data.name.replace(/[^\w.\- ]+/g, "_");
    element("a", { href: address, download: `${name}.${suffix}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  /** Return a cell of CSV; a text that spreadsheets would run gets an apostrophe, as in ms-edge classify. */
  function cell(value) {
    const text = /^[=+\-@\t\r\n\0'＝＋－＠]/.test(value) && value !== "-" ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }

  function csv() {
    const reviewed = segments.filter((each) => each.reviewed);
    if (!reviewed.length) return say("Nothing is corrected or confirmed yet.");
    const lines = reviewed.map((each) => [data.path, each.start.toFixed(3), each.end.toFixed(3), each.label,
      labelBefore(each.start, each.end)].map(cell).join(","));
    download("corrections.csv", `path,start_s,end_s,label,label_before\n${lines.join("\n")}\n`);
  }

  function audacity() {
    const lines = segments.map((each) => `${each.start.toFixed(6)}\t${each.end.toFixed(6)}\t${each.label}\n`);
    download("labels.txt", lines.join(""));
  }

  // ---- Keys and buttons ---------------------------------------------------------------------------

  const step = (by) => select((chosen?.index ?? indexAt(now())) + by);
  const actions = {
    play: playOrPause, loop: () => loop(!looping), previous: () => step(-1), next: () => step(1),
    closer: () => zoom(2), wider: () => zoom(0.5), whole: () => zoom(0),
    confirm: confirmLabel, split, join, begins: () => trim(true), ends: () => trim(false), undo, csv, audacity, restart: discard,
  };
  const keys = {
    " ": "play", l: "loop", ArrowUp: "previous", ArrowDown: "next", "+": "closer", "=": "closer", "-": "wider", 0: "whole",
    Enter: "confirm", s: "split", j: "join", "[": "begins", "]": "ends", z: "undo",
  };

  for (const [id, action] of Object.entries(actions)) $(id)?.addEventListener("click", action);
  $("choices").addEventListener("click", (event) => give(event.target.closest("button")?.dataset.label));
  $("review").addEventListener("click", (event) => {
    const index = event.target.closest("button")?.dataset.index;
    if (index !== undefined) select(Number(index));
  });
  body.addEventListener("click", (event) => {
    const index = event.target.closest("tr")?.dataset.index;
    if (index !== undefined) select(Number(index));
  });

  const onKey = (event) => {
    const on = event.target;
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    if (on.matches("input, select, textarea")) return;
    if (on.matches("button, a, summary, audio") && (event.key === "Enter" || (event.key === " " && !on.matches(".plain")))) return;
    const label = /^[1-9]$/.test(event.key) && data.labels[Number(event.key) - 1];
    if (label) give(label);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      goTo(now() + (event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1));
    } else if (keys[event.key]) actions[keys[event.key]]();
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", onKey, { signal: closed.signal });

  // ---- Begin --------------------------------------------------------------------------------------

  function close() {
    closed.abort();
    audio?.pause();
    wave?.destroy();
  }

  if (!found.length) return close; // a record without segments: there is nothing to correct
  $("tools").hidden = false;
  $("zoom").hidden = !window.WaveSurfer || !data.peaks;
  startWave();
  restore();
  showSegments();
  return close;
}

if (data.segments) showRecording(data);
