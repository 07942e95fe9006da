"""A report as tests read it: its elements, its data, and a browser that shows it."""

from __future__ import annotations

import html.parser
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VOID = {"meta", "img", "link", "input", "br"}
BROWSERS = (
    os.environ.get("AEBNAS_CHROMIUM", ""),
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
)


class Page(html.parser.HTMLParser):
    """Checks that every element is closed in its turn; collects what tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.attributes.append((tag, found))
        self.links += [found[name] for name in ("src", "href", "xlink:href", "action", "srcset") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append((int(tag[1]), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.texts.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3", "h4"):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def points_of(data: dict) -> dict[str, dict]:
    """The points of a page's data by id: kind, exits, and figures by column."""
    found = {}
    for id_, kind, network, how, precision, on, last, figures in data["points"]:
        named = dict(zip(data["columns"], figures, strict=True))
        exits = [(data["networks"][network][number]["attach"], bar, share) for number, bar, share in on]
        found[id_] = {
            "kind": kind,
            "how": data["settings"][how],
            "precision": precision,
            "exits": exits,
            "last": last,
            **named,
        }
    return found


def browser_path() -> str | None:
    return next((path for path in BROWSERS if path and Path(path).exists()), None)


class Watched:
    """A page in a browser, and what it complained of and asked the network for."""

    def __init__(self, page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> None:
        self.page.goto(path.as_uri())

    def check(self, path: Path) -> None:
        assert self.errors == []
        assert [url for url in self.requests if url != path.as_uri() and not url.startswith("data:")] == []


@contextmanager
def chromium() -> Iterator:
    """Give a headless Chromium of this machine; tests are skipped where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright (extra dev) is not installed")
    path = browser_path()
    if path is None:
        pytest.skip("there is no Chromium on this machine: install it, or name one in AEBNAS_CHROMIUM")
    with sync.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
