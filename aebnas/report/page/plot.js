// Accuracy over cost: every point of the front, with the pointer, by touch and by keyboard.

const FRAME = { left: 64, right: 18, top: 14, bottom: 50, near: 0.02, reach: 26 };
// In the order in which they are drawn: what is small lies above what is large.
const LAYERS = ["front", "finalist", "pick", "truncated", "backbone"];
const SIZES = { front: 3.4, finalist: 6.5, pick: 8, truncated: 5, backbone: 6 };
const plot = { marks: new Map(), order: [], log: null, scales: null, list: null, ring: null };

const layerOf = (point) => (point.pick ? "pick" : point.kind);

function outline(layer, x, y, r) {
  if (layer === "pick") return `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`;
  if (layer === "truncated") return `M${x} ${y - r}l${r} ${1.8 * r}h${-2 * r}z`;
  if (layer === "backbone") return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
  return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

/** Where a point is drawn: predicted (or counted) and measured cost, and accuracy; null where it is not known. */
function valuesOf(point) {
  return { predicted: cost(point, state.axis, false), measured: cost(point, state.axis, true), y: point.v[state.split] };
}

/** The accuracies that are drawn, in %: those of finalists and backbone, and of others as far down as is asked for. */
function yRange() {
  const drawn = POINTS.filter((point) => known(point.v[state.split]));
  const values = drawn.map((point) => point.v[state.split]);
  const base = BACKBONE.v[state.split] ?? BACKBONE.v.accuracy_val;
  const must = drawn.filter((point) => point.pick || point.kind === "finalist" || point.kind === "backbone")
    .map((point) => point.v[state.split]);
  // Far less accurate points would squeeze all that matters into a corner.
  const near = base - Math.max(FRAME.near, 2 * (base - Math.min(...must)));
  const floor = { near, ten: base - 0.1, all: -1 }[byId("reach").value];
  const low = Math.min(...must, ...values.filter((value) => value >= floor));
  const high = Math.max(...values);
  const margin = Math.max(0.06 * (high - low), 0.002);
  return [100 * (low - 1.5 * margin), 100 * Math.min(high + margin, 1 + margin)];
}

function makeScales(width, height) {
  const [low, high] = yRange();
  const within = POINTS.map(valuesOf).filter(({ y }) => known(y) && 100 * y >= low);
  const costs = within.flatMap(({ predicted, measured }) => [predicted, measured]).filter(known);
  const least = Math.min(...costs.filter((value) => value > 0));
  const most = Math.max(...costs);
  const log = plot.log ?? most / least > 3;
  byId("log").checked = log;
  const [from, to] = [FRAME.left, width - FRAME.right];
  const room = Math.max(3, Math.floor((to - from) / 80));
  const x = log && most > least
    ? logarithmic(least / 1.15, most * 1.15, from, to, room)
    : linear(least - 0.06 * (most - least || least), most + 0.06 * (most - least || least), from, to, room);
  const y = linear(low, high, height - FRAME.bottom, FRAME.top, Math.floor((height - 60) / 55));
  return { x, y, log, low, width, height };
}

function axes({ x, y, log, width, height }) {
  const bottom = height - FRAME.bottom;
  const label = `${state.axis.label}, ${state.axis.unit}${log ? ", log scale" : ""}`;
  return svg("g", { "aria-hidden": "true" },
    y.ticks.map((value) => [
      svg("line", { x1: FRAME.left, x2: width - FRAME.right, y1: y.at(value), y2: y.at(value), class: "grid" }),
      svg("text", { x: FRAME.left - 7, y: y.at(value) + 4, class: "tick end" }, tickText(value)),
    ]),
    x.ticks.map((value) => [
      svg("line", { x1: x.at(value), x2: x.at(value), y1: FRAME.top, y2: bottom, class: "grid" }),
      svg("text", { x: x.at(value), y: bottom + 18, class: "tick mid" }, tickText(value)),
    ]),
    svg("text", { x: (FRAME.left + width - FRAME.right) / 2, y: height - 8, class: "tick mid" }, label),
    svg("text", { transform: `translate(13 ${(FRAME.top + bottom) / 2}) rotate(-90)`, class: "tick mid" },
      `${state.split === "accuracy_val" ? "validation" : "test"} ${DATA.accuracy}, %`));
}

/** The steps of what nothing beats, among points that leave early, by predicted cost on validation. */
function frontLine({ x, y, low }) {
  if (state.split !== "accuracy_val") return null;
  const early = POINTS.filter((point) =>
    !isStatic(point) && 100 * point.v.accuracy_val >= low && known(cost(point, state.axis, false)));
  early.sort((a, b) => cost(a, state.axis, false) - cost(b, state.axis, false) || b.v.accuracy_val - a.v.accuracy_val);
  let best = -1, path = "";
  for (const point of early) {
    if (point.v.accuracy_val <= best) continue;
    best = point.v.accuracy_val;
    const at = [x.at(cost(point, state.axis, false)), y.at(100 * best)];
    path += path ? `H${at[0]}V${at[1]}` : `M${at[0]} ${at[1]}`;
  }
  return svg("path", { d: path, class: "frontline", "aria-hidden": "true" });
}

function markOf(point, scales) {
  const { predicted, measured, y } = valuesOf(point);
  if (!known(y) || (!known(predicted) && !known(measured)) || 100 * y < scales.low) return null;
  const layer = layerOf(point), r = SIZES[layer], top = scales.y.at(100 * y);
  const places = [predicted, measured].map((value) => (known(value) ? scales.x.at(value) : null));
  const [open, full] = places;
  const node = svg("g", {
    role: "option", id: `mark-${point.index}`, tabindex: -1, class: `mark ${layer}`,
    "aria-label": sentence(point), "aria-selected": point === state.selected,
  },
    known(open) && known(full) && svg("line", { x1: open, x2: full, y1: top, y2: top, class: "pair-line" }),
    known(open) && svg("path", { d: outline(layer, open, top, r), class: state.axis.exact ? "full" : "open" }),
    known(full) && svg("path", { d: outline(layer, full, top, r), class: "full" }));
  return { point, node, layer, xs: places.filter(known), y: top, cost: known(predicted) ? predicted : measured };
}

function drawPlot() {
  const figure = byId("plot");
  const width = Math.max(280, Math.min(1000, Math.floor(figure.clientWidth || 640)));
  const height = Math.round(Math.min(500, Math.max(300, 0.62 * width)));
  const scales = makeScales(width, height);
  plot.scales = scales;
  plot.marks = new Map();
  for (const point of POINTS) {
    const mark = markOf(point, scales);
    if (mark) plot.marks.set(point, mark);
  }
  const all = [...plot.marks.values()];
  plot.order = all.sort((a, b) => a.cost - b.cost || a.y - b.y);
  const layered = [...all].sort((a, b) => LAYERS.indexOf(a.layer) - LAYERS.indexOf(b.layer));
  plot.list = svg("g", { role: "listbox", "aria-label": "Points in order of cost: arrow keys move, Enter selects" },
    layered.map((mark) => mark.node));
  plot.ring = svg("g", { class: "ring", "aria-hidden": "true" });
  const base = BACKBONE.v[state.split];
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-labelledby": "plot-caption", class: "plot" },
    axes(scales),
    known(base) && svg("line", { x1: FRAME.left, x2: width - FRAME.right, y1: scales.y.at(100 * base), y2: scales.y.at(100 * base), class: "baseline", "aria-hidden": "true" }),
    frontLine(scales), plot.ring, plot.list, below(scales));
  listen(chart);
  figure.querySelectorAll("svg.plot, .legend").forEach((old) => old.remove());
  figure.prepend(chart);
  figure.append(legend());
  caption();
  showFiltered();
  markSelected();
}

function below({ low, height }) {
  const hidden = POINTS.filter((point) => known(point.v[state.split]) && 100 * point.v[state.split] < low);
  if (!hidden.length) return null;
  const least = Math.min(...hidden.map((point) => 100 * point.v[state.split]));
  return svg("text", { x: FRAME.left + 8, y: height - FRAME.bottom - 8, class: "tick halo" },
    `↓ ${hidden.length} below, down to ${least.toFixed(0)} %`);
}

function caption() {
  const measured = state.axis.measured ? "; filled: measured, joined to what was predicted" : "";
  const marks = state.axis.exact ? "Counted, not measured." : `Open marks: predicted, composed of measured blocks${measured}.`;
  byId("plot-caption").textContent =
    `${DATA.accuracy[0].toUpperCase()}${DATA.accuracy.slice(1)} over ${state.axis.label}: up and to the left is better. Dashed: the backbone's accuracy. ${marks}`;
}

function legend() {
  const entries = { pick: "default pick", finalist: "finalist", front: "other point of the front", truncated: "truncated static network", backbone: "static backbone" };
  const there = new Set(POINTS.map(layerOf));
  return el("ul", { class: "legend" }, Object.entries(entries).filter(([layer]) => there.has(layer)).map(([layer, text]) =>
    el("li", {}, svg("svg", { viewBox: "0 0 20 20", width: 20, height: 20, class: `mark ${layer}`, "aria-hidden": "true" },
      svg("path", { d: outline(layer, 10, 10, Math.min(7, SIZES[layer] + 1)), class: "full" })), text)));
}

/** Hide what the filters leave out; of what is left one point is in the tab order. */
function showFiltered() {
  for (const { point, node } of plot.marks.values()) node.classList.toggle("out", !state.shown.has(point));
  const first = plot.order.find(({ point }) => point === state.selected && state.shown.has(point)) || within()[0];
  plot.order.forEach((mark) => mark.node.setAttribute("tabindex", mark === first ? 0 : -1));
}

const within = () => plot.order.filter(({ point }) => state.shown.has(point));

function markSelected() {
  for (const { point, node } of plot.marks.values()) node.setAttribute("aria-selected", point === state.selected);
  plot.ring.replaceChildren();
  const mark = plot.marks.get(state.selected);
  if (!mark || !state.shown.has(mark.point)) return;
  const { latency_ms_low: low, latency_ms_high: high } = mark.point.v;
  if (state.axis.name === "latency_ms" && known(low) && known(high)) {
    const [a, b] = [plot.scales.x.at(low), plot.scales.x.at(high)];
    plot.ring.append(svg("path", { d: `M${a} ${mark.y - 9}v18m0-9H${b}m0-9v18`, class: "whisker" }));
  }
  for (const x of mark.xs) plot.ring.append(svg("circle", { cx: x, cy: mark.y, r: SIZES[mark.layer] + 5 }));
}

function nearest(event, chart) {
  const box = chart.getBoundingClientRect();
  const scale = plot.scales.width / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let best = null, least = FRAME.reach ** 2;
  for (const mark of within()) {
    for (const at of mark.xs) {
      const far = (at - x) ** 2 + (mark.y - y) ** 2;
      if (far < least) [best, least] = [mark, far];
    }
  }
  return best;
}

function listen(chart) {
  chart.addEventListener("pointermove", (event) => {
    const mark = nearest(event, chart);
    chart.classList.toggle("hot", Boolean(mark));
    if (mark) showTip(mark.point, mark.node);
    else hideTip();
  });
  chart.addEventListener("pointerleave", hideTip);
  chart.addEventListener("click", (event) => {
    const mark = nearest(event, chart);
    if (mark) select(mark.point);
  });
  chart.addEventListener("focusin", (event) => {
    const mark = plot.order.find(({ node }) => node === event.target);
    if (mark) showTip(mark.point, mark.node);
  });
  chart.addEventListener("focusout", hideTip);
  chart.addEventListener("keydown", move);
}

function move(event) {
  const marks = within();
  const here = marks.findIndex(({ node }) => node === event.target);
  if (here < 0) return;
  // Left and right go by cost, up and down by accuracy.
  const byAccuracy = event.key === "ArrowUp" || event.key === "ArrowDown";
  const row = byAccuracy ? [...marks].sort((a, b) => b.y - a.y || a.cost - b.cost) : marks;
  const at = row.indexOf(marks[here]);
  const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowUp: at + 1, ArrowDown: at - 1, Home: 0, End: row.length - 1 };
  if (event.key in steps) {
    const next = row[Math.max(0, Math.min(row.length - 1, steps[event.key]))];
    marks[here].node.setAttribute("tabindex", -1);
    next.node.setAttribute("tabindex", 0);
    next.node.focus();
  } else if (event.key === "Enter" || event.key === " ") select(marks[here].point);
  else if (event.key === "Escape") hideTip();
  else return;
  event.preventDefault();
}
