// The page that classifies a recording in the browser: choose, decode, hand to the worker, show.
(() => {
  const module = (name) => new URL(name, new URL(`${data.assets}/`, document.baseURI)).href;
  const MOST_DECODED_S = 7200; // an hour of stereo takes 3 GB while Chromium decodes it
  const PIECE_S = 60, MARGIN_S = 1; // of WAV, decoded in pieces; resampling needs some samples around each
  let number = 0; // of the recording that is worked on
  let close = () => {}; // ends the recording that is shown
  let address = null; // of the recording that is shown
  let ready = false; // the model is loaded

  // A worker whose script is a blob inherits the policy of this page: it, too, can reach this site only.
  const script = new Blob([`import ${JSON.stringify(module("worker.mjs"))};`], { type: "text/javascript" });
  const wavReader = import(module("wav.mjs"));
  wavReader.catch(() => {}); // the worker says that it is missing
  const worker = new Worker(URL.createObjectURL(script), { type: "module" });
  worker.addEventListener("message", ({ data: told }) => {
    if (told.ready) loaded();
    else if (told.broken) broken(told.broken);
    else if (told.number === number) take(told);
  });
  worker.addEventListener("error", (event) => broken(event.message || "its script cannot be loaded"));

  function loaded() {
    ready = true;
    $("loading").textContent = "The model is loaded. From now on this page needs no network.";
  }

  function broken(reason) {
    end();
    $("choose").disabled = true;
    $("loading").hidden = true;
    fail("The model cannot be loaded: open this page from a web server (not from disk), in a browser of the last " +
      `three years, and load it again. The browser says: ${reason}`);
  }

  // ---- Choose -------------------------------------------------------------------------------------

  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    begin($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  });
  $("cancel").addEventListener("click", () => {
    end();
    worker.postMessage({ number });
    tell("Cancelled.");
    $("choose").focus();
  });

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    $("drop").classList.add("over");
  });
  for (const name of ["dragleave", "drop", "dragend"]) addEventListener(name, () => $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (!$("choose").disabled) begin(event.dataTransfer.files);
  });

  // ---- Decode and classify ------------------------------------------------------------------------

  let file = null;
  let byBrowser = false; // decoded by it
  let cut = false; // the file ends before its samples do
  const tell = (text) => { $("told").textContent = text; };

  class Refusal extends Error {} // whose message is what the reader needs to know

  async function begin(files) {
    if (files.length !== 1) return fail(`Choose one recording at a time, not ${files.length}.`);
    [file] = files;
    end();
    $("failure").hidden = true;
    $("work").hidden = false;
    $("share").removeAttribute("value"); // the share of the work that is done is not known yet
    tell(ready ? `Reading ${file.name} …` : `Loading the model for ${file.name} …`);
    const mine = number, wanted = () => number === mine;
    try {
      const wav = await (await wavReader).openWav(file);
      if (!wanted()) return;
      byBrowser = wav?.rate !== data.rate;
      cut = Boolean(wav?.cut);
      if (!byBrowser) return worker.postMessage({ number, rules: data, file });
      const channels = await decode(file, wav, wanted);
      if (wanted()) worker.postMessage({ number, rules: data, channels }, channels.map((each) => each.buffer));
    } catch (error) {
      if (!wanted()) return;
      end();
      fail(`${file.name}: ${error instanceof Refusal ? error.message : "this browser cannot decode it. It is no audio, " +
        "is damaged, has a format that this browser does not know, or is too long for its memory; ms-edge itself " +
        `reads more. The browser says: ${error.message}`}`);
    }
  }

  /** End the work on the recording: what comes back of it is ignored. */
  function end() {
    number += 1;
    $("work").hidden = true;
  }

  function fail(text) {
    $("failure").textContent = text;
    $("failure").hidden = false;
    tell("");
  }

  /** Take an answer of the worker. */
  function take(told) {
    if (told.share) {
      if (!$("share").hasAttribute("value")) tell(`Classifying ${file.name} …`);
      $("share").value = told.share;
      return;
    }
    end();
    if (told.short !== undefined) {
      fail(`${file.name}: ${told.short.toFixed(3)} s of audio; at least ${data.min_duration_s} s are needed.`);
    } else if (told.failed) {
      fail(`${file.name}: it cannot be classified. The browser says: ${told.failed}`);
    } else {
      show(told);
    }
  }

  /**
   * Let the browser decode the recording and resample it to the rate of the model. Return arrays of samples, one for
   * each channel or one for their mean. `wav` is the recording if it can be read in pieces, which takes little memory;
   * that ends if `wanted` returns false.
   */
  async function decode(file, wav, wanted) {
    tell(`Decoding ${file.name} …`);
    if (wav) return [await decodePieces(wav, wanted)];
    const seconds = await length(file);
    if (seconds > MOST_DECODED_S) {
      throw new Refusal(`${duration(seconds)} is more than browsers can decode at once; at most ` +
        `${duration(MOST_DECODED_S)} is allowed. WAV is read in pieces and can be longer: ` +
        `ffmpeg -i RECORDING -ar ${data.rate} out.wav`);
    }
    return decodeWhole(file);
  }

  async function decodeWhole(blob) {
    const audio = await new OfflineAudioContext(1, 1, data.rate).decodeAudioData(await blob.arrayBuffer());
    return Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
  }

  async function decodePieces({ rate, frames, piece }, wanted) {
    const all = new Float32Array(Math.floor((frames * data.rate) / rate));
    for (let at = 0; at * rate < frames && wanted(); at += PIECE_S) {
      const from = Math.max(0, at - MARGIN_S), to = Math.min(frames, (at + PIECE_S + MARGIN_S) * rate);
      const channels = await decodeWhole(piece(from * rate, to - from * rate));
      const part = all.subarray(at * data.rate, (at + PIECE_S) * data.rate), skipped = (at - from) * data.rate;
      for (const channel of channels) part.forEach((_, i) => { part[i] += (channel[skipped + i] ?? 0) / channels.length; });
    }
    return all;
  }

  /** Return the duration of a file as the browser states it before it decodes, in seconds; NaN if it does not. */
  function length(file) {
    return new Promise((resolve) => {
      const audio = new Audio(), source = URL.createObjectURL(file);
      if (!file.size) return resolve(NaN);
      const done = () => {
        resolve(audio.duration);
        audio.removeAttribute("src"); // ends reading
        audio.load();
        URL.revokeObjectURL(source);
      };
      for (const name of ["loadedmetadata", "error"]) audio.addEventListener(name, done, { once: true });
      setTimeout(done, 10_000);
      audio.src = source;
    });
  }

  // ---- Show ---------------------------------------------------------------------------------------

  function show(found) {
    close();
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    $("result").replaceChildren($("recording").content.cloneNode(true));
    const shares = Object.entries(found.seconds).sort((a, b) => b[1] - a[1]);
    $("heading").textContent = file.name;
    $("summary").replaceChildren(swatch(found.label), element("strong", {}, found.label),
      ` ${percent(found.probability, 1)} · ${duration(found.duration)}`);
    $("totals").replaceChildren(shareBar(Object.fromEntries(shares)), element("ul", { class: "totals" },
      ...shares.map(([label, seconds]) => element("li", {}, swatch(label), `${label} `,
        element("strong", {}, duration(seconds)), " ", element("small", {}, percent(seconds / found.duration, 0))))));
    $("cut").hidden = !cut;
    $("audio").src = address;
    const facts = {
      Read: byBrowser ? `decoded by the browser and resampled to ${data.rate / 1000} kHz` : "by this page, sample by sample",
      "ms-edge": data.version, Model: data.model,
    };
    for (const [name, text] of Object.entries(facts)) {
      $("result").querySelector("dl").append(element("dt", {}, name), element("dd", {}, text));
    }
    $("result").hidden = false;
    close = showRecording({
      path: file.name, name: file.name, file: { bytes: file.size, modified: new Date(file.lastModified).toISOString() },
      channel: null, duration: found.duration, review: data.review, rows: data.labels, labels: data.choices,
      segments: found.segments.map((each) => [each.start, each.end, each.label, each.probability]),
      peaks: found.peaks, scores: Uint8Array.from(found.windows, (score) => Math.round(score * 255)), centres: found.centres,
    });
    tell(`${file.name} is ${found.label}, ${duration(found.duration)} in ${found.segments.length} ` +
      `segment${found.segments.length === 1 ? "" : "s"}.`);
    $("heading").focus();
  }

  $("drop").hidden = false;
})();
