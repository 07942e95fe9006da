import html.parser
import re

import pytest
from synthetic_runs import early_row, measured, static_row, trial, write_run

from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.report.html import write_report

EVIL = "<script>alert('x')</script>&"
VOID = {"meta", "img"}


class Balanced(html.parser.HTMLParser):
    """Checks that every element is closed in its turn; collects tags and links."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_the_report_is_one_file_with_everything_in_it(run, rows, tmp_path):
    path = write_report(run, tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    page = parsed(text)
    assert page.tags.count("img") == 6 and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags and "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert all(row["id"] in text for row in rows)
    assert page.tags.count("tr") == 1 + 3 + len(rows)
    assert "default pick is <strong>bbbbbbf-1</strong>" in text and "1.67x as fast" in text
    assert "color-scheme: light dark" in text
    assert "seconds for trials: 20.0" in text and "torch " in text
    assert re.search(r"test split has \d+ samples", text)


def test_names_from_outside_are_escaped(rows, experiment, tmp_path):
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}, "space": EVIL})
    evil = measured(early_row("eeeeeef-0", 0.97, 1e6, exits=((EVIL, 0.5, 0.5),)), 0.1, test=0.9) | {"id": EVIL}
    run = write_run(tmp_path / "run", [evil, *rows], [trial(0)], custom)
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "script" not in parsed(text).tags


def test_a_run_without_latency_says_so(experiment, tmp_path):
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}})
    rows = [early_row("aaaaaa-0", 0.9, 2e6), static_row("backbone", 0.9, 8e6)]
    run = write_run(tmp_path / "run", rows, [trial(0)], custom)
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No latency was measured" in text and "None" not in text.split("<pre>")[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"seconds": 3}'])
def test_a_damaged_summary_is_named(run, tmp_path, content):
    run.folder.summary_file.write_text(content)
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
