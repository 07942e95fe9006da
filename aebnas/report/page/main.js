// What happens when: the page's controls, its theme, its width, and printing.

function fillControls() {
  DATA.axes.forEach((axis, i) => byId("axis").append(el("option", { value: i }, `${axis.label}, ${axis.unit}`)));
  if (DATA.columns.includes("accuracy_test")) byId("split").append(el("option", { value: "accuracy_test" }, "test"));
}

function changeAxis() {
  state.axis = DATA.axes[Number(byId("axis").value)];
  state.split = byId("split").value;
  byId("most-unit").textContent = `${state.axis.unit} (${state.axis.exact ? "counted" : "predicted"})`;
  plot.log = null;
  applyFilters();
  drawPlot();
}

function listenToControls() {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("axis").addEventListener("change", changeAxis);
  byId("split").addEventListener("change", changeAxis);
  byId("log").addEventListener("change", (event) => { plot.log = event.target.checked; drawPlot(); });
  byId("reach").addEventListener("change", drawPlot);
  form.addEventListener("input", (event) => {
    if (event.target.matches("[name=kind], #text, #most, #least")) applyFilters();
  });
  // After the form has put its fields back.
  form.addEventListener("reset", () => setTimeout(changeAxis));
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function showTheme() {
  byId("theme").setAttribute("aria-pressed", isDark());
}

function listenToTheme() {
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  showTheme();
}

/** On paper everything is unfolded; afterwards it is as it was. */
function listenToPrinting() {
  let closed = [];
  window.addEventListener("beforeprint", () => {
    hideTip();
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
}

/** Call `redraw` when the width of a part of the page has changed, but not for paper. */
function followWidth(name, redraw) {
  const part = byId(name);
  let width = part.clientWidth;
  new ResizeObserver(() => {
    const now = part.clientWidth;
    if (Math.abs(now - width) < 2 || matchMedia("print").matches) return;
    width = now;
    redraw();
  }).observe(part);
}

function start() {
  // What only works with scripts is hidden without them.
  document.documentElement.classList.add("scripts");
  fillControls();
  on("select", () => { markSelected(); showFiltered(); markRow(); showDetails(); highlightDrawing(); byId("said").textContent = sentence(state.selected); });
  on("filter", () => { drawTable(); if (plot.list) { showFiltered(); markSelected(); } });
  listenToControls();
  listenToTheme();
  listenToPrinting();
  changeAxis();
  showDetails();
  drawFinalists();
  highlightDrawing();
  followWidth("plot", drawPlot);
  followWidth("table", showColumns);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
}

start();
