// Figures and points in words, as the Python side of the report writes them.

const MISSING = "–";

/** Three digits that count. */
function number(value) {
  if (!known(value)) return MISSING;
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  if (value === 0) return "0.00";
  const text = Math.abs(value) < 1e-4 ? value.toExponential(2) : value.toPrecision(3);
  return text.replace(/e-(\d)$/, "e-0$1");
}

const percent = (value) => (known(value) ? (100 * value).toFixed(2) : MISSING);
const times = (value) => (known(value) ? `${value.toFixed(2)}x` : MISSING);

/** A share in whole percent, and never 0 or 100 for what is only nearly so. */
function share(value) {
  if (value > 0 && value < 0.005) return "<1";
  return value >= 0.995 && value < 1 ? ">99" : (100 * value).toFixed(0);
}

const KINDS = {
  finalist: "finalist", front: "point of the front", backbone: "static backbone", truncated: "truncated static network",
};

const kindText = (point) => (point.pick ? `${KINDS[point.kind]}, the default pick` : KINDS[point.kind]);
const isStatic = (point) => point.kind === "backbone" || point.kind === "truncated";

function threshold(value) {
  if (!known(value)) return "always";
  if (typeof value === "string") return value;
  if (value >= 2) return "never";
  return value <= 0 ? "always" : `≥ ${value.toFixed(3)}`;
}

/** The exits of a point that are switched on, the final one last: where, through what, when, how many leave. */
function exitsOf(point) {
  const branches = point.on.map(([exit, bar, part]) => ({
    exit, part, when: isStatic(point) ? "always" : threshold(bar), ...point.exits[exit],
  }));
  if (known(point.last)) branches.push({ exit: point.exits.length, attach: "final", parts: [], part: point.last });
  return branches;
}

/** What is known of a point's costs: label, text, and whether it was predicted, measured or counted. */
function costsOf(point, axes = DATA.axes) {
  const lines = [];
  for (const axis of axes) {
    const predicted = cost(point, axis, false);
    const measured = cost(point, axis, true);
    const how = axis.exact ? "counted" : isStatic(point) ? "measured as one block" : "predicted";
    if (known(predicted)) lines.push([`${axis.label}, ${how}`, `${number(predicted)} ${axis.unit}${interval(point, axis)}`]);
    if (known(measured)) lines.push([`${axis.label}, measured`, `${number(measured)} ${axis.unit}`]);
  }
  if (known(point.v.speedup_measured)) lines.push(["speed, measured", `${times(point.v.speedup_measured)} the backbone's`]);
  return lines;
}

function interval(point, axis) {
  const { latency_ms_low: low, latency_ms_high: high } = point.v;
  return axis.name === "latency_ms" && known(low) && known(high) ? ` (${number(low)} to ${number(high)})` : "";
}

const accuracyLines = (point) => [
  [`${DATA.accuracy}, validation`, `${percent(point.v.accuracy_val)} %`],
  [`${DATA.accuracy}, test`, known(point.v.accuracy_test) ? `${percent(point.v.accuracy_test)} %` : "not scored"],
];

/** A point in one sentence, for those who hear the page. */
function sentence(point) {
  const figures = [...accuracyLines(point), ...costsOf(point)].map(([label, text]) => `${label} ${text}`);
  const exits = exitsOf(point).map((exit) => {
    const where = exit.attach === "final" ? "final exit" : `exit at ${exit.attach} through ${exit.parts.join(", ")}`;
    const when = exit.when && !isStatic(point) ? `, confidence ${exit.when}` : "";
    return `${where}${when}, ${share(exit.part)} % leave`;
  });
  return `${point.id}, ${kindText(point)}. ${figures.join("; ")}. ${exits.join("; ")}.`;
}

/** What a text filter looks in. */
const haystack = (point) =>
  [point.id, KINDS[point.kind], point.how, point.precision, ...exitsOf(point).flatMap((exit) => [exit.attach, ...exit.parts])]
    .join(" ").toLowerCase();
