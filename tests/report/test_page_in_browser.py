"""The report as a reader uses it, in a real browser: figures, sorting, filters, keys, themes, paper."""

from __future__ import annotations

import json
import re
import zlib

import pytest
from pages import Watched, chromium, points_of
from synthetic_runs import early_row, measured, static_row, trial, write_run

from aebnas.experiment import Experiment
from aebnas.report.describe import number, shares_text
from aebnas.report.html import write_report

EVIL = "</script><img src=x onerror=\"document.title='hit'\"><b>'&"
# Text and background of everything that is shown, and their contrast after WCAG 2.
CONTRAST = """() => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => { const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (node) => { for (let n = node; n; n = n.parentElement) {
    const c = parse(getComputedStyle(n).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const poor = [];
  for (const node of document.querySelectorAll("main *, header *")) {
    if (node.closest("svg") || !node.checkVisibility()) continue;
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([node.tagName, node.textContent.slice(0, 30), ratio]);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def report(experiment, tmp_path_factory):
    """A report of 40 points, two of them finalists, with latencies; its model is not at hand."""
    exits = (("stem", 0.5, 0.7), ("stages.0.1", None, 0.0), ("stages.1.2", 0.9, 0.2))
    rows = [
        measured(early_row("aaaaaaf-0", 0.90, 2e6, exits=exits), 0.3, test=0.89),
        measured(early_row("bbbbbbf-1", 0.95, 4e6, exits=exits), 0.5, test=0.93)
        | {"latency_ms_low": 0.48, "latency_ms_high": 0.52},
        *(
            early_row(
                f"c{i:05d}-{i}", 0.85 + 0.002 * i, (2 + 0.1 * ((7 * i) % 36)) * 1e6, latency_ms_mean=0.2 + 0.01 * i
            )
            for i in range(36)
        ),
        measured(static_row("backbone", 0.94, 8e6), 1.0, test=0.94),
        measured(static_row("cut-dddddd", 0.60, 1e6, "stem"), 0.2, test=0.61),
    ]
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}})
    folder = tmp_path_factory.mktemp("browser")
    run = write_run(folder / "run", rows, [trial(i, failed=i == 4) for i in range(24)], custom)
    return write_report(run, folder / "report.html"), rows


@pytest.fixture(scope="module")
def points(report):
    text = report[0].read_text(encoding="utf-8")
    return points_of(json.loads(re.search(r'id="data">(.*?)</script>', text)[1]))


@pytest.fixture
def shown(browser, report):
    """The report in a fresh page; whatever a test does, nothing is complained of and nothing is fetched."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watched = Watched(context.new_page())
    watched.open(report[0])
    yield watched.page
    watched.check(report[0])
    context.close()


def column(page, key):
    """The texts of one column of the table, from top to bottom."""
    place = page.eval_on_selector_all(
        "#table thead th", "(all, key) => all.findIndex((th) => th.dataset.key === key)", key
    )
    cells = f"#table tbody tr > :nth-child({place + 1})"
    return page.eval_on_selector_all(
        cells, "all => all.map((cell) => (cell.querySelector('button') || cell).textContent)"
    )


def numbers(texts):
    return [float(text.replace(",", "").rstrip("x")) for text in texts if text != "–"]


def mark(page, id_):
    return page.locator(f"#plot .mark[aria-label^='{id_},']")


def point_at(page, id_):
    """Move the pointer over the first shape of a point."""
    mark(page, id_).scroll_into_view_if_needed()
    box = mark(page, id_).locator("path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_every_point_within_the_picture_is_drawn(shown, points):
    hidden = re.search(r"(\d+) below, down to 60 %", shown.locator("#plot svg.plot").text_content())
    assert shown.locator("#plot .mark[role=option]").count() == len(points) - int(hidden[1])
    assert 1 < int(hidden[1]) < 10
    shown.select_option("#reach", "ten")
    assert shown.locator("#plot .mark[role=option]").count() == len(points) - 1
    shown.select_option("#reach", "all")
    assert shown.locator("#plot .mark[role=option]").count() == len(points)


def test_pointing_at_a_point_shows_its_figures(shown):
    assert shown.locator("#tip").is_hidden()
    point_at(shown, "aaaaaaf-0")
    tip = shown.locator("#tip").inner_text()
    figures = ("90.00 %", "89.00 %", "0.300 ms", "0.360 ms", "2.00 M MACs", "2.78x")
    exits = ("stem: conv3-s2 + pooled-linear", "≥ 0.500, 70 % leave", "≥ 0.900, 20 % leave", "10 % leave")
    assert [text for text in ("aaaaaaf-0", "finalist", *figures, *exits) if text not in tip] == []
    assert "predicted" in tip and "measured" in tip
    shown.mouse.move(5, 5)
    assert shown.locator("#tip").is_hidden()


def test_a_click_selects_in_plot_table_and_details(shown):
    point_at(shown, "aaaaaaf-0")
    shown.mouse.down()
    shown.mouse.up()
    assert mark(shown, "aaaaaaf-0").get_attribute("aria-selected") == "true"
    assert shown.locator("#table tr[aria-current=true] th").inner_text().startswith("aaaaaaf-0")
    assert shown.locator("#details-title").inner_text().startswith("aaaaaaf-0")
    assert "--pick aaaaaaf-0 --out aaaaaaf-0-onnx" in shown.locator("#command").inner_text()
    assert shown.locator(".network.selected").get_attribute("data-network") == "aaaaaaf-0"
    assert "aaaaaaf-0, finalist. accuracy, validation 90.00 %" in shown.locator("#said").text_content()
    assert "70.0 % leave" in shown.locator("#drawn svg.drawing").text_content()


def test_the_drawing_is_made_smaller_before_it_scrolls(shown):
    point_at(shown, "aaaaaaf-0")
    shown.mouse.down()
    shown.mouse.up()
    drawing = shown.locator("#drawn svg.drawing")
    natural = int(drawing.get_attribute("width"))
    widths = {}
    for share in (0.85, 0.5):
        shown.locator("#drawn").evaluate("(place, width) => { place.style.width = `${width}px`; }", share * natural)
        widths[share] = drawing.bounding_box()["width"] / natural
    assert widths[0.85] <= 0.85
    # Not so small that it cannot be read.
    assert 0.74 < widths[0.5] < 0.77


def test_a_row_selects_too_with_the_keyboard(shown):
    button = shown.locator("#table tbody button", has_text="backbone")
    button.focus()
    shown.keyboard.press("Enter")
    assert shown.locator("#details-title").inner_text() == "backbone"
    assert mark(shown, "backbone").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize(
    "key", ["accuracy_val", "macs_mean", "latency_ms_mean", "latency_ms_measured", "speedup_measured"]
)
def test_headings_sort_both_ways_and_what_is_not_known_comes_last(shown, key):
    button = shown.locator(f"#table th[data-key={key}] button")
    for _ in range(2):
        button.click()
        direction = shown.locator(f"#table th[data-key={key}]").get_attribute("aria-sort")
        texts = column(shown, key)
        values = numbers(texts)
        assert values == sorted(values, reverse=direction == "descending")
        assert set(texts[len(values) :]) <= {"–"} and "–" not in texts[: len(values)]
        assert shown.evaluate("document.activeElement.closest('th').dataset.key") == key
    directions = shown.eval_on_selector_all(
        "#table th[aria-sort]", "all => all.map((th) => th.getAttribute('aria-sort'))"
    )
    assert sorted(directions)[-1] == "none" and len(set(directions)) == 2
    shown.keyboard.press("Space")
    assert shown.locator(f"#table th[data-key={key}]").get_attribute("aria-sort") != direction


def test_the_order_is_that_of_the_figures(shown, points):
    shown.locator("#table th[data-key=accuracy_val] button").click()
    expected = sorted(points, key=lambda id_: -points[id_]["accuracy_val"])
    assert [points[id_]["accuracy_val"] for id_ in column(shown, "id")] == [
        points[id_]["accuracy_val"] for id_ in expected
    ]


def test_figures_are_written_as_the_tables_of_the_command_line_have_them(browser, experiment, tmp_path):
    values = [0.0, 0.0000123, 0.00999, 0.5, 0.9996, 1.0, 7.126, 12.3456, 99.96, 100.0, 1234.6, 56789.0]
    rows = [early_row(f"v{i}", 0.9, 1e6 * value, latency_ms_mean=value) for i, value in enumerate(values)]
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}})
    rows.append(static_row("backbone", 0.94, 8e6, latency_ms_mean=0.8126))
    path = write_report(write_run(tmp_path / "run", rows, [trial(0)], custom), tmp_path / "report.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert column(page, "latency_ms_mean") == [*map(number, values), number(0.8126)]
    assert column(page, "macs_mean") == [*map(number, values), number(8.0)]
    assert column(page, "shares")[:-1] == [shares_text(row) for row in rows[:-1]]
    page.close()


@pytest.fixture(scope="module")
def crowded(experiment, tmp_path_factory):
    """A report of points of which everything is known: every cost, two precisions, two ways to train."""

    def costs(row):
        figures = {"latency_ms_p95": 0.9, "energy_mj_mean": 1.5, "model_mib": 1.25, "peak_memory_mib": 2.5}
        return row | figures | {"latency_ms_p95_measured": 1.0, "model_mib_measured": 1.3}

    exits = (("features.3.block.1", 0.5, 0.7), ("features.12.block.3", 0.9, 0.2))
    made = [early_row(f"5c2f9a0{i}f-1", 0.9 + 0.01 * i, 2e6, exits=exits, precision="fp32") for i in range(8)]
    made[1] |= {"regime": "cgt-soft", "precision": "int8"}
    rows = [costs(measured(row, 0.3, test=0.89)) for row in made]
    rows.append(costs(measured(static_row("backbone", 0.94, 8e6, precision="fp32"), 1.0, test=0.94)))
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}})
    folder = tmp_path_factory.mktemp("crowded")
    return write_report(write_run(folder / "run", rows, [trial(0)], custom), folder / "report.html")


# After two frames, what follows the width has had its turn.
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SHOWN_COLUMNS = """all => all.filter((th) => th.checkVisibility()).map((th) => th.dataset.key)"""
MAIN = {"id", "accuracy_val", "accuracy_test", "latency_ms_mean", "latency_ms_measured"}
SCROLLS = "(() => { const box = document.querySelector('#table .tall'); return box.scrollWidth > box.clientWidth; })()"


def shown_columns(page):
    return set(page.eval_on_selector_all("#table thead th", SHOWN_COLUMNS))


def test_the_table_has_the_columns_that_fit(browser, crowded):
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    watched = Watched(context.new_page())
    watched.open(crowded)
    page, found = watched.page, {}
    for width in (1300, 800, 500, 1300):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(FRAMES)
        assert not page.evaluate(SCROLLS)
        found.setdefault(width, shown_columns(page))
        assert found[width] == shown_columns(page)
        assert page.locator("#table summary").inner_text() == f"Columns: {len(found[width])} of 18"
    assert found[500] < found[800] < found[1300]
    assert found[800] >= MAIN | {"exits", "macs_mean"}
    assert found[1300] >= found[800] | {"kind", "shares", "speedup_measured", "how", "precision"}
    assert "energy_mj_mean" not in found[1300]
    watched.check(crowded)
    context.close()


def test_other_columns_are_shown_by_choice(browser, crowded):
    context = browser.new_context(viewport={"width": 800, "height": 900})
    watched = Watched(context.new_page())
    watched.open(crowded)
    page = watched.page
    fitting = shown_columns(page)
    page.locator("#table summary").click()
    assert page.locator("#table .columns button").is_disabled()
    page.locator("#table input[value=energy_mj_mean]").focus()
    page.keyboard.press("Space")
    page.locator("#table input[value=exits]").uncheck()
    wanted = fitting - {"exits"} | {"energy_mj_mean"}
    assert shown_columns(page) == wanted
    # It stays, whatever is sorted, filtered or made wider.
    page.locator("#table th[data-key=energy_mj_mean] button").click()
    page.fill("#least", "91")
    page.set_viewport_size({"width": 1300, "height": 900})
    page.evaluate(FRAMES)
    assert shown_columns(page) == wanted
    assert page.locator("#table tbody tr").count() == 8
    page.set_viewport_size({"width": 800, "height": 900})
    page.evaluate(FRAMES)
    page.locator("#table .columns button").click()
    # What the rows are sorted by is among those that fit.
    assert "energy_mj_mean" in shown_columns(page)
    page.locator("#table th[data-key=accuracy_val] button").click()
    assert shown_columns(page) == fitting
    watched.check(crowded)
    context.close()


def test_paper_has_the_main_columns_whatever_the_window_had_room_for(browser, crowded):
    context = browser.new_context(viewport={"width": 500, "height": 900})
    page = context.new_page()
    page.goto(crowded.as_uri())
    assert "speedup_measured" not in shown_columns(page)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 900})
    assert shown_columns(page) == MAIN | {"exits", "shares", "macs_mean", "speedup_measured"}
    assert page.evaluate("document.querySelector('#table table').offsetWidth") <= 688
    assert page.locator("#table .columns").is_hidden()
    context.close()


def test_filters_leave_out_rows_and_marks(shown, points):
    shown.select_option("#reach", "all")

    def left():
        drawn = shown.eval_on_selector_all("#plot .mark[role=option]:not(.out)", "all => all.length")
        return set(column(shown, "id")), drawn

    shown.uncheck("[name=kind][value=front]")
    shown.uncheck("[name=kind][value=static]")
    assert left() == ({"aaaaaaf-0", "bbbbbbf-1"}, 2)
    shown.check("[name=kind][value=front]")
    shown.fill("#least", "91.5")
    assert left()[0] == {
        id_
        for id_, point in points.items()
        if point["accuracy_val"] >= 0.915 and point["kind"] in ("front", "finalist")
    }
    shown.fill("#most", "0.55")
    expected = {
        id_
        for id_, point in points.items()
        if point["accuracy_val"] >= 0.915
        and point["latency_ms_mean"] <= 0.55
        and point["kind"] in ("front", "finalist")
    }
    assert left() == (expected, len(expected)) and expected
    shown.fill("#text", "STAGES.1 conv3")
    assert left()[0] == {"bbbbbbf-1"}
    assert shown.locator("#count").inner_text() == "1 of 40 points"
    shown.click("button[type=reset]")
    shown.locator("#count", has_text="40 of 40 points").wait_for()
    assert left()[0] == set(points)


def test_keys_walk_along_the_points_and_select(shown, points):
    shown.select_option("#reach", "ten")
    shown.locator("#plot .mark[tabindex='0']").focus()
    assert shown.evaluate("document.activeElement.getAttribute('aria-label')").startswith("bbbbbbf-1,")
    assert shown.eval_on_selector_all("#plot .mark[tabindex='0']", "all => all.length") == 1
    shown.keyboard.press("Home")
    walked = [shown.evaluate("document.activeElement.getAttribute('aria-label').split(',')[0]")]
    for _ in range(5):
        shown.keyboard.press("ArrowRight")
        walked.append(shown.evaluate("document.activeElement.getAttribute('aria-label').split(',')[0]"))
    drawn = [id_ for id_ in points if id_ != "cut-dddddd"]
    assert walked == sorted(drawn, key=lambda id_: points[id_]["latency_ms_mean"])[:6]
    assert walked[-1] in shown.locator("#tip").inner_text()
    shown.keyboard.press("ArrowLeft")
    shown.keyboard.press("Enter")
    assert shown.locator("#details-title").inner_text() == walked[-2]
    shown.keyboard.press("Escape")
    assert shown.locator("#tip").is_hidden()
    shown.keyboard.press("ArrowUp")
    higher = shown.evaluate("document.activeElement.getAttribute('aria-label').split(',')[0]")
    assert points[higher]["accuracy_val"] > points[walked[-2]]["accuracy_val"]


def test_focus_can_be_seen_and_tab_leaves_the_points_again(shown):
    shown.locator("#plot .mark[tabindex='0']").focus()
    shown.keyboard.press("ArrowRight")
    outline = shown.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    shown.keyboard.press("Tab")
    assert not shown.evaluate("document.activeElement.matches('.mark')")


def test_predicted_and_measured_are_drawn_apart_and_counted_figures_are_filled(shown):
    finalist = mark(shown, "aaaaaaf-0")
    assert finalist.locator(".open").count() == 1 and finalist.locator(".full").count() == 1
    front = mark(shown, "c00010-10")
    assert front.locator(".open").count() == 1 and front.locator(".full").count() == 0
    xs = [finalist.locator(kind).bounding_box()["x"] for kind in (".open", ".full")]
    assert xs[1] > xs[0]  # measured 1.2 times as long
    shown.select_option("#axis", label="mean multiply-accumulates, M MACs")
    assert mark(shown, "aaaaaaf-0").locator(".open").count() == 0
    assert "Counted, not measured" in shown.locator("#plot-caption").inner_text()
    assert "M MACs (counted)" in shown.locator("#most-unit").inner_text()


def test_on_test_only_what_was_scored_is_drawn(shown):
    shown.select_option("#split", "accuracy_test")
    ids = shown.eval_on_selector_all(
        "#plot .mark[role=option]", "all => all.map((m) => m.getAttribute('aria-label').split(',')[0])"
    )
    assert set(ids) == {"aaaaaaf-0", "bbbbbbf-1", "backbone"}


def test_dark_and_light_follow_the_system_and_the_button(browser, report):
    for scheme, other in (("light", "dark"), ("dark", "light")):
        context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
        watched = Watched(context.new_page())
        watched.open(report[0])
        page = watched.page
        background = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(background)
        assert page.get_attribute("#theme", "aria-pressed") == str(scheme == "dark").lower()
        assert page.evaluate(CONTRAST) == []
        page.click("#theme")
        assert page.evaluate(background) != before
        assert page.evaluate("document.documentElement.dataset.theme") == other
        page.mouse.move(0, 0)
        assert page.evaluate(CONTRAST) == []
        watched.check(report[0])
        context.close()


def test_a_phone_shows_all_without_scrolling_sideways(browser, report):
    context = browser.new_context(viewport={"width": 360, "height": 720}, has_touch=True, is_mobile=True)
    watched = Watched(context.new_page())
    watched.open(report[0])
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert watched.page.locator("#plot svg.plot").bounding_box()["width"] > 300
    box = mark(watched.page, "aaaaaaf-0").locator("path").first.bounding_box()
    watched.page.locator("#plot").scroll_into_view_if_needed()
    box = mark(watched.page, "aaaaaaf-0").locator("path").first.bounding_box()
    watched.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert watched.page.locator("#details-title").inner_text().startswith("aaaaaaf-0")
    watched.check(report[0])
    context.close()


def test_the_command_is_copied(browser, report):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    watched = Watched(context.new_page())
    watched.open(report[0])
    watched.page.click(".command button")
    watched.page.locator(".command button", has_text="Copied").wait_for()
    copied = watched.page.evaluate("navigator.clipboard.readText()")
    assert copied == watched.page.locator("#command").inner_text() and copied.startswith("aebnas export ")
    watched.check(report[0])
    context.close()


def pages_of(pdf):
    """What is written on every page of a PDF of Chromium: the operators of its streams, unpacked."""
    objects = {int(name): body for name, body in re.findall(rb"(?:^|\n)(\d+) 0 obj(.*?)endobj", pdf, re.S)}

    def named(body, key):
        return [
            int(one)
            for one in re.findall(rb"(\d+) 0 R", re.search(rb"/" + key + rb" (\[.*?\]|\d+ 0 R)", body, re.S)[1])
        ]

    def below(number):
        body = objects[number]
        if b"/Type /Pages" in body:
            return [content for kid in named(body, b"Kids") for content in below(kid)]
        (stream,) = (objects[one] for one in named(body, b"Contents"))
        return [zlib.decompress(stream.split(b"stream\n", 1)[1].split(b"\nendstream")[0])]

    (catalog,) = (body for body in objects.values() if b"/Type /Catalog" in body)
    return below(*named(catalog, b"Pages"))


def test_paper_begins_with_the_results_and_has_everything_unfolded(shown):
    count = "document.querySelectorAll('details:not([open])').length"
    shown.evaluate(f"addEventListener('beforeprint', () => {{ window.folded = {count}; }})")
    pages = pages_of(shown.pdf(format="A4"))
    assert shown.evaluate("window.folded") == 0
    # Operators that show text: the first page holds the headline and more, none is empty.
    written = [len(re.findall(rb"T[jJ]", content)) for content in pages]
    assert len(pages) >= 2 and written[0] > 20 and min(written) > 0
    assert shown.eval_on_selector_all("details:not([open])", "all => all.length") > 0
    shown.emulate_media(media="print")
    assert all(shown.locator(what).first.is_hidden() for what in ("header", "#filters", ".command button"))
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_names_from_outside_do_nothing(browser, experiment, tmp_path):
    evil = measured(early_row("x", 0.97, 1e6, exits=((EVIL, 0.5, 0.5),), regime=EVIL), 0.1, test=0.9) | {"id": EVIL}
    base = measured(static_row("backbone", 0.94, 8e6), 1.0, test=0.94)
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}, "space": EVIL})
    path = write_report(write_run(tmp_path / "run", [evil, base], [trial(0)], custom), tmp_path / "report.html")
    context = browser.new_context()
    watched = Watched(context.new_page())
    watched.open(path)
    page = watched.page
    page.locator("#plot .mark[tabindex='0']").focus()
    page.fill("#text", "onerror")
    assert page.locator("#details-title").inner_text().startswith(EVIL)
    assert EVIL in page.locator("#tip").inner_text()
    assert page.title() == "aebnas: mine" and page.locator("img").count() == 0
    command = page.locator("#command").inner_text()
    assert "--pick '</script><img" in command and "'\"'\"'" in command
    watched.check(path)
    context.close()


def test_a_script_from_elsewhere_is_refused(browser, report):
    context = browser.new_context()
    page = context.new_page()
    page.goto(report[0].as_uri())
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))"
    )
    assert page.evaluate("window.hit") is None
    context.close()


def test_two_thousand_points_are_drawn_sorted_and_thinned_honestly(browser, experiment, tmp_path):
    rows = [
        *(early_row(f"p{i:06d}-0", 0.80 + 0.00009 * i, (1 + 0.003 * i) * 1e6) for i in range(2000)),
        static_row("backbone", 0.97, 8e6),
    ]
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}})
    path = write_report(write_run(tmp_path / "run", rows, [trial(0)], custom), tmp_path / "report.html")
    assert path.stat().st_size < 2_000_000
    context = browser.new_context()
    watched = Watched(context.new_page())
    watched.open(path)
    page = watched.page
    page.select_option("#reach", "all")
    assert page.locator("#plot .mark[role=option]").count() == 2001
    assert page.locator("#table tbody tr").count() == 200
    assert "2,001 of 2,001 points, the first 200 of them below" in page.locator("#count").inner_text()
    page.locator("#table th[data-key=macs_mean] button").click()
    assert column(page, "id")[:2] == ["p000000-0", "p000001-0"]
    page.click("#count button")
    assert page.locator("#table tbody tr").count() == 2001
    watched.check(path)
    context.close()


def test_without_scripts_the_finalists_can_be_read(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report[0].as_uri())
    assert "Scripts are off" in page.locator("noscript").inner_text()
    assert "bbbbbbf-1" in page.locator("#table").inner_text() and page.locator("#filters").is_hidden()
    context.close()
