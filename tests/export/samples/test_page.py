"""The page, in a real browser, says what EarlyExitSession says and asks nobody else for anything."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page, the problems that its console tells, and the addresses that it asked for."""

    page: object
    problems: list[str]
    asked: list[str]


@pytest.fixture
def open_page(browser):
    with contextlib.ExitStack() as stack:

        def make(address: str, **options) -> Opened:
            page = stack.enter_context(contextlib.closing(browser.new_page(**options)))
            opened = Opened(page, [], [])
            page.on("console", lambda said: opened.problems.append(said.text) if said.type != "log" else None)
            page.on("pageerror", lambda error: opened.problems.append(str(error)))
            page.on("request", lambda request: opened.asked.append(request.url))
            page.goto(address)
            return opened

        yield make


def said_by(page) -> list[tuple[str, str, float]]:
    """What the page says of each picture, in the order in which they were given: file, name, exit, confidence."""
    cards = page.locator("article").all()[::-1]
    texts = [
        [card.locator(part).first.inner_text() for part in ("p", ".name", ".exit", ".confidence")] for card in cards
    ]
    return [(file, name, left, float(sure)) for file, name, left, sure in texts]


@pytest.fixture
def served(case, installed, serve) -> Iterator[str]:
    folder = case.folder / "samples" / "web"
    (folder / "node_modules").symlink_to(installed["web"])
    yield f"{serve(case.folder)}/samples/web/"
    (folder / "node_modules").unlink()


def ready(page) -> None:
    page.wait_for_function("document.getElementById('status').textContent === 'Ready.'")


def test_page(case, served, open_page):
    opened = open_page(served)
    page = opened.page
    ready(page)
    page.get_by_label("Choose a picture").set_input_files(list(map(str, case.pictures)))
    page.wait_for_function(f"document.querySelectorAll('article').length === {len(case.pictures)}")
    ready(page)
    found = said_by(page)
    assert [file for file, *_ in found] == [picture.name for picture in case.pictures]
    assert [name for _, name, *_ in found] == [" ".join(case.classes[label].split()) for label in case.expected.labels]
    where = ["exit 0 of 0 to 2, at block.0", "exit 1 of 0 to 2, at block.1", "exit 2 of 0 to 2, the final one"]
    assert [left for _, _, left, _ in found] == [where[exit_] for exit_ in case.expected.exits]
    np.testing.assert_allclose([sure for *_, sure in found], case.expected.confidence, atol=1e-3)
    assert opened.problems == []
    own = served.removesuffix("samples/web/")
    assert [url for url in opened.asked if not url.startswith((own, "blob:", "data:"))] == []


DROP = """
([type, name, content]) => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  data.items.add(new File([bytes], name, { type }));
  const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(event);
}
"""


def test_page_takes_what_is_dropped_and_names_what_is_no_picture(case, served, open_page):
    page = open_page(served).page
    ready(page)
    page.evaluate(DROP, ["image/png", "bad.png", base64.b64encode(b"no picture").decode()])
    page.get_by_text("bad.png cannot be read as a picture.").wait_for()
    content = base64.b64encode(case.pictures[0].read_bytes()).decode()
    page.evaluate(DROP, ["image/png", "good.png", content])
    ready(page)
    ((file, _, left, _),) = said_by(page)
    assert file == "good.png"
    assert left.startswith(f"exit {case.expected.exits[0]} ")


def test_page_says_what_is_missing(case, open_page, floats, serve):
    page = open_page(f"{serve(case.folder)}/samples/web/").page
    page.get_by_text("onnxruntime-web is missing: run `npm install` in samples/web").wait_for()
    assert page.get_by_label("Choose a picture").is_disabled()
    page = open_page(f"{serve(case.folder / 'samples' / 'web')}/index.html").page
    page.get_by_text("is not there: let the server serve the whole exported folder").wait_for()
    page = open_page(f"{serve(floats)}/samples/web/").page
    page.get_by_text("This network takes no pictures as they are: the data's values were scaled by 1").wait_for()
    page = open_page((case.folder / "samples" / "web" / "index.html").as_uri()).page
    page.get_by_text("run `python -m http.server` in the exported folder").wait_for()
