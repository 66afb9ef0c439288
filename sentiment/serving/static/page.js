// What the page does more with JavaScript: a file can be dropped on the form, what is in the text
// area is counted, Ctrl+Enter sends it, a list of answers can be sifted, and the buttons that say
// what a review was leave the page as it is. Nothing here is needed.
"use strict";

const form = document.getElementById("reviews");
const text = document.getElementById("text");
const file = document.getElementById("file");
const count = document.getElementById("count");

function showCount() {
  const lines = text.value.split("\n").filter((line) => line.trim()).length;
  const byLine = form.elements.split.value === "lines";
  let words = `${text.value.length.toLocaleString("en")} characters`;
  if (byLine) words = lines === 1 ? "1 review" : `${lines.toLocaleString("en")} reviews`;
  else if (lines > 1) words += `, ${lines} lines read as one review`;
  if (file.files.length) words = file.files[0].name;
  count.textContent = words;
  count.hidden = !file.files.length && !text.value.trim();
}

for (const kind of ["dragenter", "dragover"]) {
  form.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    form.classList.add("dropping");
  });
}
form.addEventListener("dragleave", (event) => {
  if (!form.contains(event.relatedTarget)) form.classList.remove("dropping");
});
form.addEventListener("drop", (event) => {
  form.classList.remove("dropping");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  file.files = event.dataTransfer.files;
  showCount();
});
form.addEventListener("input", showCount);
showCount();

form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  form.requestSubmit();
});
document.getElementById("shortcut").hidden = false;

// --- "Was this right?" ---

const right = document.getElementById("right");
const said = document.getElementById("said");

async function send(button) {
  const body = new URLSearchParams({
    request_id: right.elements.request_id.value,
    said: button.value,
  });
  let words = "Not kept: the server does not answer.";
  try {
    const headers = { Accept: "application/json" };
    const response = await fetch(right.action, { method: "POST", body, headers });
    const answer = await response.json();
    words = `Not kept: ${answer.error}.`;
    if (response.ok) {
      words = `Kept: it is ${answer.label}.`;
      for (const one of button.parentElement.children)
        one.setAttribute("aria-pressed", String(one === button));
    }
  } catch {
    // said already
  }
  said.textContent = words;
}

right?.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.submitter);
});

// --- a list of answers ---

const table = document.getElementById("answers");

const GUARDED =
  /^'(?=[\t\r]|[\s\u0000-\u001f\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠﹦﹢﹣﹫])/;

// The cells of the download, all of them quoted
function readTable(link) {
  const bytes = Uint8Array.from(atob(link.href.split(",", 2)[1]), (c) => c.charCodeAt(0));
  const rows = [[]];
  for (const [, cell, end] of new TextDecoder()
    .decode(bytes)
    .matchAll(/"((?:[^"]|"")*)"(,|\r?\n|$)/g)) {
    rows.at(-1).push(cell.replaceAll('""', '"'));
    if (end !== ",") rows.push([]);
  }
  const names = rows[0];
  return rows
    .slice(1)
    .filter((cells) => cells.length === names.length)
    .map((cells) => Object.fromEntries(cells.map((cell, at) => [names[at], cell])));
}

function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1%";
  if (share < 1 && share > 0.9995) return ">99.9%";
  return `${(100 * share).toFixed(1)}%`;
}

function makeRow(row) {
  const made = document.querySelector(`template[data-label="${row.label}"]`).content;
  const line = made.firstElementChild.cloneNode(true);
  const [number, review, label, share, buttons] = line.cells;
  number.textContent = row.number;
  // the download guards spreadsheets against formulas; a page runs none
  review.textContent = row.review.replace(GUARDED, "");
  if (row.label) share.textContent = percent(row.probability);
  else if (row.reason) label.firstElementChild.textContent = row.reason;
  for (const button of [...(buttons?.children ?? [])]) {
    if (row.position === null) button.remove();
    else button.value = `${row.position}:${button.value.split(":")[1]}`;
  }
  return line;
}

function sift() {
  const controls = document.getElementById("sift");
  const pager = document.getElementById("pager");
  const [earlier, later] = [document.getElementById("earlier"), document.getElementById("later")];
  const body = table.tBodies[0];
  const size = Number(table.dataset.page);
  const threshold = Number(table.dataset.threshold);
  const lines = [...body.rows];
  let position = 0;
  const rows = readTable(document.getElementById("download")).map((row, at) => ({
    ...row,
    at,
    number: (at + 1).toLocaleString("en"),
    probability: row.label ? Number(row.probability) : null,
    position: row.probability === "" ? null : position++,
    line: lines[at],
  }));
  const orders = {
    sent: (a, b) => a.at - b.at,
    low: (a, b) => a.probability - b.probability,
    high: (a, b) => b.probability - a.probability,
    near: (a, b) => Math.abs(a.probability - threshold) - Math.abs(b.probability - threshold),
  };
  let first = 0;

  function show() {
    const { label, low, high, order } = controls.elements;
    const bounded = low.value !== "" || high.value !== "";
    const [least, most] = [Number(low.value || 0) / 100, Number(high.value || 100) / 100];
    const found = rows.filter((row) => {
      if (label.value !== "all" && (row.label || "neither") !== label.value) return false;
      if (row.probability === null) return !bounded;
      return row.probability >= least && row.probability <= most;
    });
    found.sort((a, b) => {
      const unknown = (a.probability === null) - (b.probability === null);
      return (order.value !== "sent" && unknown) || orders[order.value](a, b) || a.at - b.at;
    });
    first = Math.min(first, Math.max(0, Math.ceil(found.length / size - 1) * size));
    const shown = found.slice(first, first + size);
    for (const row of shown) {
      row.line ??= makeRow(row);
      row.line.hidden = false;
    }
    body.replaceChildren(...shown.map((row) => row.line));
    const range = `${(first + 1).toLocaleString("en")}–${(first + shown.length).toLocaleString("en")}`;
    document.getElementById("shown").textContent = found.length
      ? `${range} of ${found.length.toLocaleString("en")}`
      : "None is like that";
    earlier.disabled = first === 0;
    later.disabled = first + size >= found.length;
  }

  controls.addEventListener("input", () => {
    first = 0;
    show();
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  for (const [button, step] of [[earlier, -size], [later, size]])
    button.addEventListener("click", () => {
      first += step;
      show();
      table.scrollIntoView({ block: "start" });
    });
  controls.hidden = pager.hidden = false;
  document.getElementById("rest")?.remove();
  show();
}

if (table && table.tBodies[0].rows.length > 1) sift();
