// What is shown of one point: briefly beside the pointer, and in full where it is selected.

const pairs = (lines) => el("dl", {}, lines.map(([label, text]) => [el("dt", {}, label), el("dd", {}, text)]));

const exitText = (exit) =>
  exit.attach === "final" ? "final exit" : `${exit.attach}: ${exit.parts.join(" + ")}`;

function showTip(point, node) {
  const tip = byId("tip");
  // The others stand beside the plot once it is selected.
  const axes = DATA.axes.filter((axis) => axis === state.axis || ["latency_ms", "macs"].includes(axis.name));
  const exits = exitsOf(point).map((exit) => [
    exitText(exit), `${exit.when && !isStatic(point) ? `${exit.when}, ` : ""}${share(exit.part)} % leave`,
  ]);
  tip.replaceChildren(el("p", { class: "strong" }, point.id), el("p", { class: "muted" }, kindText(point)),
    pairs([...accuracyLines(point), ...costsOf(point, axes)]), pairs(exits));
  tip.hidden = false;
  const at = node.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = at.right + 14 + size.width < window.innerWidth ? at.right + 14 : at.left - 14 - size.width;
  // Below a point there is seldom another one: what is no better and no cheaper is not on the front.
  const top = Math.min(at.bottom + 10, window.innerHeight - size.height - 8);
  tip.style.left = `${Math.max(8, Math.min(left, window.innerWidth - size.width - 8))}px`;
  tip.style.top = `${Math.max(8, top)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

/** Exits of a point as a table; shares of test are there for finalists that were run again. */
function exitTable(point) {
  const seen = DATA.seen[point.id];
  const heads = ["exit", "layers and head", "leaves if confidence", "leave, validation"];
  if (seen) heads.push(`leave, test (${seen.samples === seen.of ? "all" : `${seen.samples.toLocaleString("en-US")} of`} ${seen.of.toLocaleString("en-US")})`);
  const rows = exitsOf(point).map((exit) => {
    const at = seen ? seen.exits.indexOf(exit.exit) : -1;
    return el("tr", {}, el("th", { scope: "row" }, exit.attach), el("td", {}, exit.parts.join(" + ") || "the backbone's own classifier"),
      el("td", {}, exit.when ?? "the rest"), el("td", { class: "number" }, `${(100 * exit.part).toFixed(1)} %`),
      seen && el("td", { class: "number" }, at < 0 ? MISSING : `${(100 * seen.shares[at]).toFixed(1)} %`));
  });
  return el("table", {}, el("caption", {}, `Exits of ${point.id}`),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows));
}

/** A word of a shell's command line, quoted where it must be. */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);

function showDetails() {
  const point = state.selected;
  const settings = [["kind", kindText(point)]];
  if (!isStatic(point)) settings.push(["trained by, decides by", point.how]);
  if (point.precision) settings.push(["precision", point.precision]);
  const command = `${DATA.export}${quoted(point.id)} --out ${quoted(`${point.id}-onnx`)}`;
  const box = byId("details");
  const title = byId("details-title");
  title.replaceChildren(point.id, point.pick ? el("span", { class: "badge" }, "default pick") : "");
  box.replaceChildren(title,
    pairs([...settings, ...accuracyLines(point), ...costsOf(point)]),
    el("div", { class: "command" }, el("pre", { tabindex: 0 }, el("code", { id: "command" }, unbroken(command))),
      el("button", { type: "button", onclick: (event) => copy(command, event.target) }, "Copy")));
  const scroll = (label, inside) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, inside);
  byId("drawn").replaceChildren(...(point.kind === "backbone" ? [] : [
    scroll("Drawing of the selected network", drawNetwork(point)), scroll("Exits of the selected network", exitTable(point))]));
}

/** A command that breaks between its words only. */
const unbroken = (command) => command.split(" ").flatMap((word, i) => [i ? " " : null, el("span", { class: "word" }, word)]);

/** Copy to the clipboard; where a page from a file may not, by selecting the text. */
async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(byId("command"));
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Select it and press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 2500);
}

function highlightDrawing() {
  document.querySelectorAll("[data-network]").forEach((place) => {
    place.classList.toggle("selected", place.dataset.network === state.selected.id);
  });
}
