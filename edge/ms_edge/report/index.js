"use strict";

// The list of recordings: sorted, filtered, and with no more rows in the document than can be seen.
// Without this script there is a complete table.
(() => {
  const table = $("recordings"), body = table.tBodies[0], box = $("scroll");
  const heads = [...table.tHead.rows[0].cells];
  const MORE = 20; // rows above and below the visible ones

  const rows = data.rows.map(([name, address, label, p, duration, seconds, least, notes], number) => ({
    number, address, label, p, duration, seconds, least, notes, name,
    text: `${name} ${notes}`.toLowerCase(),
    keys: [name, label, address ? p : -1, address ? duration : -1, share(seconds, "speech"), least ?? 2, notes],
  }));

  function share(seconds, label) {
    let held = 0, total = 0;
    for (const [name, value] of Object.entries(seconds)) {
      total += value;
      if (name.split("+").includes(label)) held += value;
    }
    return total ? held / total : -1;
  }

  // ---- One row ------------------------------------------------------------------------------------

  function row(each) {
    const cell = (...children) => element("td", {}, ...children), ok = Boolean(each.address);
    return element("tr", { "aria-rowindex": each.number + 2 },
      cell(ok ? element("a", { href: each.address, title: each.name }, each.name) : each.name),
      cell(swatch(each.label), each.label), cell(ok ? percent(each.p, 1) : ""), cell(ok ? duration(each.duration) : ""),
      cell(ok ? shareBar(each.seconds) : ""), cell(each.least === null ? "" : percent(each.least, 0)),
      element("td", { title: each.notes }, each.notes));
  }

  // ---- The visible part of the table --------------------------------------------------------------

  let shown = rows; // what passes the filter, in order
  let column = null, descending = false;
  let height = 33; // of a row, in px; measured when there is one
  let asked = false;
  const space = () => element("tr", { class: "space", "aria-hidden": "true" }, element("td", { colspan: heads.length }));
  const above = space(), below = space();

  function draw(all = false) {
    asked = false;
    const first = all ? 0 : Math.max(0, Math.floor(box.scrollTop / height) - MORE);
    const last = all ? shown.length : Math.min(shown.length, first + Math.ceil(box.clientHeight / height) + 2 * MORE);
    above.cells[0].style.height = `${first * height}px`;
    below.cells[0].style.height = `${(shown.length - last) * height}px`;
    above.hidden = !first;
    below.hidden = last === shown.length;
    const focused = document.activeElement?.closest?.("tbody tr")?.getAttribute("aria-rowindex");
    body.replaceChildren(above, ...shown.slice(first, last).map(row), below);
    if (focused) body.querySelector(`tr[aria-rowindex="${focused}"] a`)?.focus({ preventScroll: true });
    const one = body.rows[1]?.offsetHeight;
    if (one && Math.abs(one - height) > 0.5 && last > first) {
      height = one;
      later();
    }
  }

  function later() {
    if (!asked) requestAnimationFrame(() => draw());
    asked = true;
  }

  function choose() {
    const words = $("text").value.toLowerCase().split(/\s+/).filter(Boolean), label = $("label").value;
    shown = rows.filter((each) => (!label || each.label === label) && words.every((word) => each.text.includes(word)));
    if (column !== null) {
      const sign = descending ? -1 : 1;
      shown.sort((a, b) => {
        const x = a.keys[column], y = b.keys[column];
        return (x < y ? -sign : x > y ? sign : 0) || a.number - b.number;
      });
    }
    const counts = [shown.length, rows.length].map((each) => each.toLocaleString("en"));
    $("count").textContent = shown.length === rows.length ? "" : counts.join(" of ");
    box.scrollTop = 0;
    draw();
  }

  heads.forEach((head, number) => {
    const button = element("button", { type: "button", class: "plain" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      descending = column === number && !descending;
      column = number;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      choose();
    });
  });
  table.setAttribute("aria-rowcount", rows.length + 1);
  table.hidden = false;
  $("filter").hidden = false;
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("text").addEventListener("input", choose);
  $("label").addEventListener("input", choose);
  box.addEventListener("scroll", later, { passive: true });
  addEventListener("resize", later);
  addEventListener("beforeprint", () => draw(true));
  addEventListener("afterprint", () => draw());
  draw();
})();
