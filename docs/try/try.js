// The page that classifies a recording in the browser: choose, decode, hand to the worker, show.
(() => {
  const WORKER = new URL("worker.mjs", new URL(`${data.assets}/`, document.baseURI)).href;
  let number = 0; // of the recording that is worked on
  let close = () => {}; // ends the recording that is shown
  let address = null; // of the recording that is shown
  let ready = false; // the model is loaded

  // A worker whose script is a blob inherits the policy of this page: it, too, can reach this site only.
  const script = new Blob([`import ${JSON.stringify(WORKER)};`], { type: "text/javascript" });
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
  const tell = (text) => { $("told").textContent = text; };

  function begin(files) {
    if (files.length !== 1) return fail(`Choose one recording at a time, not ${files.length}.`);
    [file] = files;
    byBrowser = false;
    end();
    $("failure").hidden = true;
    $("work").hidden = false;
    $("share").removeAttribute("value"); // the share of the work that is done is not known yet
    tell(ready ? `Reading ${file.name} …` : `Loading the model for ${file.name} …`);
    worker.postMessage({ number, file, rules: data });
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
    if (told.undecoded) return decode();
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

  /** Let the browser decode the recording and resample it to the rate of the model. */
  async function decode() {
    const mine = number;
    byBrowser = true;
    tell(`Decoding ${file.name} …`);
    try {
      const encoded = await file.arrayBuffer();
      const audio = await new OfflineAudioContext(1, 1, data.rate).decodeAudioData(encoded);
      if (number !== mine) return;
      const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
      worker.postMessage({ number, file, channels, rules: data }, channels.map((each) => each.buffer));
    } catch (error) {
      if (number !== mine) return;
      end();
      fail(`${file.name}: this browser cannot decode it. It is no audio, is damaged, has a format that this browser ` +
        `does not know, or is too long for its memory; ms-edge itself reads more. The browser says: ${error.message}`);
    }
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
    $("cut").hidden = !found.cut;
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
