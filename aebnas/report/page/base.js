"use strict";
// Data, small helpers, and what is selected. All text goes through textContent: names from a run are never markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** Put attributes and children on a node; a child that is no node becomes text, null and false are left out. */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Points as objects: figures by the names of their columns under `v`, null where they are not known. */
const POINTS = DATA.points.map(([id, kind, net, how, precision, on, last, figures], index) => ({
  id, kind, index, precision, on, last,
  exits: DATA.networks[net],
  how: DATA.settings[how],
  pick: id === DATA.pick,
  v: Object.fromEntries(DATA.columns.map((name, i) => [name, figures[i]])),
}));
const BACKBONE = POINTS.find((point) => point.id === "backbone");

const state = {
  selected: POINTS.find((point) => point.pick),
  axis: DATA.axes[0],
  split: "accuracy_val",
  shown: new Set(POINTS),
};

const listeners = { select: [], filter: [], axis: [] };
const on = (what, call) => listeners[what].push(call);
const tell = (what) => listeners[what].forEach((call) => call());

function select(point) {
  if (state.selected === point) return;
  state.selected = point;
  tell("select");
}

const known = (value) => value !== null && value !== undefined;
const cost = (point, axis, measured) => {
  const column = measured ? axis.measured : axis.column;
  const value = column ? point.v[column] : null;
  return known(value) ? value / axis.scale : null;
};
