// The drawing of one network: the backbone from left to right, its branches below, bands as thick as the images in them.

const BOX = { height: 58, top: 46, gap: 40, least: 122, more: 320, branch: 150, line: 17, band: 30, shrink: 0.75 };

function cut(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

const words = (x, y, text, kind, full) =>
  svg("text", { x, y, class: kind || "mid" }, text, full ? svg("title", null, full) : null);

/** Cumulative MACs up to an attach point, null where they are not known. */
function macsTo(name) {
  const at = DATA.macs ? DATA.macs.names.indexOf(name) : -1;
  return at < 0 ? null : DATA.macs.values[at];
}

function drawNetwork(point) {
  const exits = exitsOf(point);
  const total = macsTo("final");
  const parts = [];
  const middle = BOX.top + BOX.height / 2;
  let left = 62, before = 0, remaining = 1, deepest = 0;
  parts.push(words(4, middle + 4, "image", "start"));
  parts.push(svg("rect", { x: 46, y: middle - BOX.band / 2, width: 16, height: BOX.band, class: "flow" }));
  exits.forEach((exit, i) => {
    const end = macsTo(exit.attach);
    const portion = total && known(end) ? (end - before) / total : 1 / exits.length;
    const width = BOX.least + BOX.more * portion;
    parts.push(...backboneBox(left, width, exit, end, before, total));
    before = known(end) ? end : before;
    left += width;
    const next = Math.max(0, remaining - exit.part);
    if (exit.attach === "final") {
      parts.push(...leaving(left, middle, exit.part));
    } else {
      const last = i === exits.length - 1;
      parts.push(...branchBox(point, exit, left + (last ? 0 : BOX.gap / 2), remaining));
      deepest = Math.max(deepest, exit.parts.length);
      if (!last) parts.push(band(left, middle, BOX.gap, next));
      left += BOX.gap;
    }
    remaining = next;
  });
  const width = left + (known(point.last) ? 110 : 60);
  const height = BOX.top + BOX.height + (deepest ? 44 + deepest * BOX.line + 100 : 24);
  return svg("svg", {
    viewBox: `0 0 ${Math.ceil(width)} ${height}`, width: Math.ceil(width), height,
    // As wide as there is room for, but to be read: below this it scrolls.
    style: `min-width: ${Math.ceil(BOX.shrink * width)}px`,
    role: "img", "aria-label": `Drawing: ${sentence(point)}`, class: "drawing",
  }, parts);
}

/** Of a band: as much as there is of the images, but never so thin that what is there cannot be seen. */
const thickness = (part) => (part > 0 ? Math.max(1, BOX.band * part) : 0);

function band(x, middle, width, part) {
  const thick = thickness(part);
  return svg("rect", { x, y: middle - thick / 2, width, height: thick, class: "flow" },
    svg("title", null, `${(100 * part).toFixed(1)} % go on`));
}

function backboneBox(x, width, exit, end, before, total) {
  const center = x + width / 2;
  const name = exit.attach === "final" ? "output" : exit.attach;
  const parts = [
    svg("rect", { x, y: BOX.top, width, height: BOX.height, rx: 6, class: "box segment-box" }),
    words(center, BOX.top + 23, cut(name, Math.floor(width / 7.4)), "mid strong", name),
  ];
  if (known(end) && total) {
    parts.push(words(center, BOX.top + 42, `${number((end - before) / 1e6)} M, ${share((end - before) / total)} %`, "mid small"));
    // Attach points that this network does not use.
    DATA.macs.values.forEach((value, i) => {
      if (value <= before || value >= end) return;
      const at = x + (width * (value - before)) / (end - before);
      parts.push(svg("line", { x1: at, x2: at, y1: BOX.top + 3, y2: BOX.top + 9, class: "unused" },
        svg("title", null, `${DATA.macs.names[i]}: not used`)));
    });
  }
  return parts;
}

function branchBox(point, exit, center, coming) {
  const top = BOX.top + BOX.height + 30;
  const height = 14 + BOX.line * exit.parts.length;
  const left = center - BOX.branch / 2;
  const thick = thickness(exit.part);
  const arrow = top + height;
  return [
    svg("rect", { x: center - 1.5, y: BOX.top + BOX.height / 2 + BOX.band * coming / 2, width: 3, height: top - BOX.top - BOX.height / 2 - BOX.band * coming / 2, class: "asked" }),
    svg("rect", { x: left, y: top, width: BOX.branch, height, rx: 6, class: "box branch-box" },
      svg("title", null, exit.full.join(" → "))),
    exit.parts.map((part, i) => words(center, top + 20 + BOX.line * i, cut(part, 20), "mid", part)),
    thick > 0 && svg("path", { d: `M${center - thick / 2} ${arrow}v34h${-4}l${thick / 2 + 4} 10l${thick / 2 + 4} -10h-4v-34z`, class: "flow" }),
    words(center + thick / 2 + 10, arrow + 20, cut(exit.when, 22), "start small", exit.when),
    words(center, arrow + 62, `${(100 * exit.part).toFixed(1)} % leave`, "mid strong"),
  ].flat();
}

function leaving(x, middle, part) {
  const thick = thickness(part);
  return [
    thick > 0 && svg("path", { d: `M${x} ${middle - thick / 2}h22v-4l10 ${thick / 2 + 4}l-10 ${thick / 2 + 4}v-4h-22z`, class: "flow" }),
    words(x + 38, middle - 2, `${(100 * part).toFixed(1)} %`, "start strong"),
    words(x + 38, middle + 15, "leave here", "start small"),
  ];
}

/** Draw the finalists where the page has a place for them. */
function drawFinalists() {
  document.querySelectorAll("[data-network]").forEach((place) => {
    const point = POINTS.find((one) => one.id === place.dataset.network);
    const box = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Drawing of ${point.id}` }, drawNetwork(point));
    place.querySelector("figcaption").after(box);
  });
}
