// All points as a table that sorts by its headings, shows what the filters leave, and has the columns that fit.

const FIRST_ROWS = 200;
const sorting = { column: null, down: false, all: false };
// Keys of the columns that the reader asked for; null: as many as fit.
let chosen = null;

const varies = (get, points) => new Set(points.map(get)).size > 1;
const exitLines = (point) => exitsOf(point).filter((exit) => exit.attach !== "final")
  .map((exit) => `${exit.attach}: ${exit.parts.join(" + ")}`);
const early = (point) => (isStatic(point) ? null : 1 - (point.last ?? 0));

/**
 * Columns: heading, what is written, what is sorted by (null: last), whether it is a number, and its place in the row of
 * those that stay the longest where there is little room.
 */
function columnsOf() {
  const made = [
    { key: "id", rank: 0, head: "id", text: (p) => p.id, value: (p) => p.id },
    { key: "kind", rank: 5, head: "kind", text: (p) => KINDS[p.kind], value: (p) => KINDS[p.kind], extra: true },
    { key: "exits", rank: 2, head: "exits", text: (p) => exitLines(p).join("\n") || "no exits", value: (p) => exitLines(p).length || null, wide: true },
    { key: "shares", rank: 4, head: "exit shares, %", text: (p) => (isStatic(p) ? MISSING : exitsOf(p).map((exit) => share(exit.part)).join("/")), value: early, number: true },
    { key: "accuracy_val", rank: 1, head: "validation, %", text: (p) => percent(p.v.accuracy_val), value: (p) => p.v.accuracy_val, number: true },
  ];
  let extra = false, rank = 1;
  const figure = (key, head, text) => made.push({ key, rank, head, text, value: (p) => p.v[key], number: true, extra });
  if (DATA.columns.includes("accuracy_test")) figure("accuracy_test", "test, %", (p) => percent(p.v.accuracy_test));
  for (const axis of DATA.axes) {
    // What paper has no room for.
    extra = ![DATA.axes[0].name, "latency_ms", "macs"].includes(axis.name);
    rank = axis === DATA.axes[0] ? 1 : extra ? 6 : 3;
    const name = axis.label.replace("multiply-accumulates", "MACs");
    const how = axis.exact ? "" : ", predicted";
    figure(axis.column, `${name}${how}, ${axis.unit}`, (p) => number(cost(p, axis, false)));
    if (axis.measured) figure(axis.measured, `${name}, measured, ${axis.unit}`, (p) => number(cost(p, axis, true)));
  }
  [extra, rank] = [false, 3];
  if (DATA.columns.includes("speedup_measured")) figure("speedup_measured", "speed-up, measured", (p) => times(p.v.speedup_measured));
  if (varies((p) => p.precision, POINTS)) made.push({ key: "precision", rank: 5, head: "precision", text: (p) => p.precision ?? MISSING, value: (p) => p.precision, extra: true });
  if (varies((p) => p.how, POINTS.filter((p) => !isStatic(p)))) made.push({ key: "how", rank: 5, head: "training, confidence", text: (p) => p.how, value: (p) => p.how, extra: true });
  return made;
}

const COLUMNS = columnsOf();
const TEXTS = new Map();

/** Return the points that are shown, in the order of the column that was chosen; what is not known comes last. */
function sorted() {
  const rows = POINTS.filter((point) => state.shown.has(point));
  const column = COLUMNS.find(({ key }) => key === sorting.column);
  if (!column) return rows;
  const sign = sorting.down ? -1 : 1;
  return rows.sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (!known(x) || !known(y)) return known(x) ? -1 : known(y) ? 1 : 0;
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

const classOf = ({ number: right, wide, extra }) => [right && "number", wide && "wide", extra && "extra"].filter(Boolean).join(" ");

function heading(column) {
  const here = sorting.column === column.key;
  const direction = here ? (sorting.down ? "descending" : "ascending") : "none";
  const arrow = here ? (sorting.down ? " ▼" : " ▲") : "";
  const button = el("button", { type: "button", onclick: () => sortBy(column) }, column.head,
    el("span", { "aria-hidden": "true" }, arrow));
  return el("th", { scope: "col", "aria-sort": direction, "data-key": column.key, class: classOf(column) }, button);
}

function sortBy(column) {
  const again = sorting.column === column.key;
  // The best of a number first: accuracies and speed-ups from above, costs from below.
  const best = /^(accuracy|speedup)/.test(column.key);
  sorting.down = again ? !sorting.down : best;
  sorting.column = column.key;
  drawTable();
  document.querySelector(`#table th[data-key="${column.key}"] button`).focus();
}

function rowOf(point) {
  const cells = COLUMNS.map((column, i) => {
    const kind = { class: classOf(column) };
    if (i) return el("td", kind, column.text(point));
    return el("th", { scope: "row" }, el("button", { type: "button" }, column.text(point)), point.pick && el("span", { class: "badge" }, "pick"));
  });
  return el("tr", {
    "data-index": point.index, class: point.kind, "aria-current": point === state.selected && "true",
  }, cells);
}

/** Return the columns that fit into `room`, by the widths that they take at the least; the rest is by choice. */
function fitting(widths, room) {
  const order = COLUMNS.map((column, i) => ({ column, i }))
    .sort((a, b) => (b.column.key === sorting.column) - (a.column.key === sorting.column) || a.column.rank - b.column.rank || a.i - b.i);
  let left = room;
  const fit = order.filter(({ i }) => (left -= widths[i]) >= 0);
  // What is left out leaves no room to what matters less.
  return new Set(order.slice(0, Math.max(fit.length, 1)).map(({ column }) => column.key));
}

/** Show the columns that were chosen, or those that fit. */
function showColumns() {
  const table = document.querySelector("#table table");
  const hide = (off) => [...table.rows].forEach((row) => COLUMNS.forEach((column, i) => row.cells[i].classList.toggle("off", off(column))));
  hide(() => false);
  // A table that is too wide is as narrow as can be, and so are its columns.
  const box = table.closest(".scroll"), tooWide = box.scrollWidth > box.clientWidth;
  const widths = [...table.rows[0].cells].map((cell) => cell.getBoundingClientRect().width);
  const shown = chosen ?? (tooWide ? fitting(widths, box.clientWidth) : new Set(COLUMNS.map(({ key }) => key)));
  hide(({ key }) => !shown.has(key));
  CHOOSER.querySelector("summary").textContent = `Columns: ${shown.size} of ${COLUMNS.length}`;
  CHOOSER.querySelectorAll("input").forEach((box) => { box.checked = shown.has(box.value); });
  CHOOSER.querySelector("button").disabled = chosen === null;
}

function chooser() {
  const take = (keys) => { chosen = keys; showColumns(); };
  const boxes = COLUMNS.slice(1).map(({ key, head }) => el("label", {}, el("input", { type: "checkbox", value: key }), ` ${head}`));
  const picked = (form) => new Set(["id", ...[...form.querySelectorAll(":checked")].map((box) => box.value)]);
  const made = el("details", { class: "columns" }, el("summary", {}),
    el("div", { class: "filters", role: "group", "aria-label": "Columns of the table" }, boxes,
      el("button", { type: "button", onclick: () => take(null) }, "As many as fit")));
  made.addEventListener("change", () => take(picked(made)));
  return made;
}

const CHOOSER = chooser();

function drawTable() {
  const rows = sorted();
  const shown = sorting.all ? rows : rows.slice(0, FIRST_ROWS);
  const body = el("tbody", { onclick: chooseRow }, shown.map(rowOf));
  const table = el("table", {}, el("caption", {}, "Points of the front: headings sort, a row's id selects"),
    el("thead", {}, el("tr", {}, COLUMNS.map(heading))), body);
  const more = rows.length > shown.length && el("button", { type: "button", onclick: showAll }, `Show all ${rows.length.toLocaleString("en-US")}`);
  byId("table").replaceChildren();
  fill(byId("table"), {}, [
    el("p", { id: "count", role: "status" }, `${rows.length.toLocaleString("en-US")} of ${POINTS.length.toLocaleString("en-US")} points`,
      more && `, the first ${shown.length} of them below `, more),
    COLUMNS.some(({ extra }) => extra) && el("p", { class: "paper muted" }, "On paper the main figures only; the file has all."),
    CHOOSER, el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Table of points" }, table)]);
  showColumns();
}

function showAll() {
  sorting.all = true;
  drawTable();
}

function chooseRow(event) {
  const row = event.target.closest("tr");
  if (row) select(POINTS[Number(row.dataset.index)]);
}

/** Mark the row of the selected point and bring it into view within the table; the page stays where it is. */
function markRow() {
  const rows = [...document.querySelectorAll("#table tbody tr")];
  rows.forEach((row) => row.removeAttribute("aria-current"));
  const row = rows.find((one) => Number(one.dataset.index) === state.selected.index);
  if (row) {
    row.setAttribute("aria-current", "true");
    const box = row.closest(".tall"), head = 60;
    if (row.offsetTop < box.scrollTop + head || row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) {
      box.scrollTop = row.offsetTop - head;
    }
  } else if (!sorting.all && state.shown.has(state.selected)) {
    showAll();
    markRow();
  }
}

/** Take what the filters say, for plot and table alike. */
function applyFilters() {
  const kinds = new Set([...document.querySelectorAll("#filters [name=kind]:checked")].map((box) => box.value));
  const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const most = parseFloat(byId("most").value), least = parseFloat(byId("least").value);
  state.shown = new Set(POINTS.filter((point) => {
    if (!kinds.has(isStatic(point) ? "static" : point.kind)) return false;
    if (!Number.isNaN(least) && 100 * (point.v[state.split] ?? -1) < least) return false;
    const value = cost(point, state.axis, false);
    if (!Number.isNaN(most) && !(known(value) && value <= most)) return false;
    if (!TEXTS.has(point)) TEXTS.set(point, haystack(point));
    return words.every((word) => TEXTS.get(point).includes(word));
  }));
  tell("filter");
}
