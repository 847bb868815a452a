"use strict";

// What all pages have in common.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const cssClass = (label) => `l-${label.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`; // as in drawing.py
const PATTERNS = { music: "stripes", "speech+music": "stripes", other: "dots" }; // as in drawing.py
const percent = (value, digits) => `${(100 * value).toFixed(digits)}%`;

/** Return a new element. Strings among the children are text, whatever they contain. */
function element(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return a new element of SVG. */
function drawn(name, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return the sign of a label: its initials in a frame of its colour. */
function swatch(label) {
  const sign = data.signs[label] ?? label.split("+").map((part) => part.slice(0, 1).toUpperCase()).join("");
  return element("span", { class: `swatch ${cssClass(label)}`, "aria-hidden": "true" }, sign);
}

/** Return a duration as h:mm:ss.s without leading zeros: 7.2 s, 3:07.2, 1:02:03.4. */
function duration(seconds) {
  const tenths = Math.round(seconds * 10), pad = (value) => value.padStart(4, "0");
  const h = Math.floor(tenths / 36000), m = Math.floor(tenths / 600) % 60, s = ((tenths % 600) / 10).toFixed(1);
  return h ? `${h}:${String(m).padStart(2, "0")}:${pad(s)}` : m ? `${m}:${pad(s)}` : `${s} s`;
}

/** Return a small bar of the share of each label. */
function shareBar(seconds) {
  const total = Object.values(seconds).reduce((sum, each) => sum + each, 0) || 1, parts = Object.entries(seconds);
  const told = parts.map(([label, value]) => `${label} ${percent(value / total, 0)}`).join(", ");
  const bar = drawn("svg", { class: "share", role: "img", "aria-label": told });
  let x = 0;
  for (const [label, value] of parts) {
    const place = { x: `${x}%`, width: percent(value / total, 2), height: "100%" };
    bar.append(drawn("rect", { class: cssClass(label), ...place }));
    if (PATTERNS[label]) bar.append(drawn("rect", { fill: `url(#${PATTERNS[label]})`, ...place }));
    x += (100 * value) / total;
  }
  return bar;
}
