"use strict";

// What the page of a recording and the index have in common.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const cssClass = (label) => `l-${label.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`; // as in drawing.py
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
