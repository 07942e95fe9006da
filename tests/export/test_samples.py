"""The samples of an export are run as their users run them, and say what EarlyExitSession says."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import http.server
import importlib.util
import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.cli import main
from aebnas.data.decoding import ImageForm
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import DataError, RunError, RunFailed
from aebnas.exits.policy import Policy
from aebnas.export import package
from aebnas.export.package import export_network
from aebnas.export.samples import FILES, TEMPLATES, read_samples
from aebnas.export.session import EarlyExitSession, Prediction
from aebnas.inputs import ModelInput
from aebnas.rebuild import export_row, rebuild
from aebnas.run_folder import RunFolder

Image = pytest.importorskip("PIL.Image", reason="the samples read pictures with Pillow (extra images)")
ImageOps = pytest.importorskip("PIL.ImageOps")

NEAR = 1e-3  # of a threshold, or between the two best classes: there, the last digits of two runtimes may decide
COUNT = 12
CHROMIUM = Path("/usr/bin/chromium")
LINE = re.compile(r"(?P<file>.*): (?P<name>.*), confidence (?P<sure>\d\.\d{4}), left at exit (?P<exit>\d) of 0 to 2")
# Names that a program has to decode.
NAMES = ("cat", "père", 'a "b"', "back\\slash", "日本", "😀", "two\twords", "], [", "€", "x")


@dataclass
class Case:
    """An export with pictures beside it, and what is to be said of each."""

    folder: Path
    pictures: list[Path]
    expected: Prediction
    classes: tuple[str, ...]

    def check(self, lines: str) -> None:
        """Compare with what a sample printed."""
        found = [LINE.fullmatch(line) for line in lines.splitlines()]
        assert None not in found, lines
        assert [match["file"] for match in found] == list(map(str, self.pictures))
        assert [match["name"] for match in found] == [self.classes[label] for label in self.expected.labels]
        assert [int(match["exit"]) for match in found] == self.expected.exits.tolist()
        np.testing.assert_allclose([float(match["sure"]) for match in found], self.expected.confidence, atol=1e-3)


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


def head(channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, len(NAMES)))


def export(folder: Path, raw: np.ndarray, white: int, classes: tuple[str, ...]) -> EarlyExitSession:
    """Export an untrained network with three exits, at each of which some of the ``raw`` images leave."""
    torch.manual_seed(0)
    shape = raw.shape[1:]
    segments = [conv(shape[0], 6), conv(6, 8), nn.Sequential(conv(8, 8), head(8))]
    branches = [head(6), head(8)]
    scaled = raw.astype(np.float32) * np.float32(1 / white)
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    features, said = torch.from_numpy((scaled - mean[:, None, None]) / std[:, None, None]), []
    with torch.no_grad():
        for part, exit_ in zip(segments, [*branches, segments[-1][1]], strict=True):
            features = (part[0] if part is segments[-1] else part)(features)
            # Untrained logits hardly differ: these are centred and spread.
            logits = exit_(features)
            exit_[-1].weight *= 2 / logits.std(0).mean()
            exit_[-1].bias.copy_((exit_[-1].bias - logits.mean(0)) * 2 / logits.std(0).mean())
            said.append(exit_(features).softmax(1).max(1).values)
    thresholds = (float(said[0].quantile(0.6)), float(said[1].quantile(0.5)))
    export_network(
        folder,
        segments=segments,
        branches=branches,
        policy=Policy("max-probability", thresholds),
        input_shape=shape,
        classes=classes,
        preprocessing={"scale": 1 / white, "mean": mean.tolist(), "std": std.tolist()},
        costs={},
        extra={"branches": [{"attach": "block.0"}, {"attach": "block.1"}]},
    )
    return EarlyExitSession(folder)


def clear(session: EarlyExitSession, raw: np.ndarray) -> np.ndarray:
    """Which images lie far enough from every threshold, and their labels from being others."""
    logits, _, sure = session.all_exits(raw)
    best = np.sort(logits, axis=2)[..., -2:]
    bars = np.array(session.manifest["thresholds"])[:, None]
    return (np.abs(sure[:-1] - bars) > NEAR).all(0) & (best[..., 1] - best[..., 0] > NEAR).all(0)


def pixels_of(name: str) -> tuple[np.ndarray, int]:
    """Return images, uint8 (N, C, H, W), and the value that counts as 1."""
    if name == "colour":
        random = np.random.default_rng(0)
        coarse = random.integers(0, 256, (400, 3, 4, 5))
        return np.repeat(np.repeat(coarse, 3, axis=2), 4, axis=3).astype(np.uint8), 255
    try:
        data = load_data(DataSettings(name=name), seed=0)
    except DataError as error:
        pytest.skip(str(error))  # fashion-mnist does not come with the package; digits always do
    return data.test.raw(1000).numpy(), round(1 / data.preprocessing.scale)


@pytest.fixture(scope="module", params=["digits", "fashion-mnist", "colour"])
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    raw, white = pixels_of(request.param)
    session = export(folder, raw, white, NAMES)
    raw = raw[clear(session, raw)]
    every = session.run(raw).exits
    chosen = np.concatenate([np.flatnonzero(every == exit_)[: COUNT // 3] for exit_ in range(3)])
    assert len(chosen) == COUNT
    paths = []
    for number in chosen:
        paths.append(folder / f"picture {number}.png")
        save(raw[number], white, paths[-1])
    return Case(folder, paths, session.run(raw[chosen], mode="single"), NAMES)


def save(image: np.ndarray, white: int, path: Path) -> None:
    stretched = np.rint(image.astype(np.float64) * 255 / white).astype(np.uint8)
    Image.fromarray(stretched[0] if len(stretched) == 1 else stretched.transpose(1, 2, 0)).save(path)


def run(*words: object, **options) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what is written ---


def test_every_sample_is_in_every_export(exported):
    for folder in exported.values():
        assert {name: (folder / "samples" / name).read_bytes() for name in FILES} == read_samples()


def test_every_template_is_written():
    found = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*") if path.is_file()}
    assert {name for name in found if "__pycache__" not in name} == set(FILES)


def test_an_installation_without_the_samples_is_told_before_anything_is_removed(toys, tmp_path, monkeypatch):
    out = toys[1].export(tmp_path / "out")
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    (tmp_path / "templates" / "web" / "index.html").unlink()
    monkeypatch.setattr(package, "read_samples", lambda: read_samples(tmp_path / "templates"))
    with pytest.raises(
        RunFailed, match=r"web/index\.html cannot be read \(No such file.*is not whole, install it again"
    ):
        toys[1].export(out)
    assert EarlyExitSession(out).num_exits == 2


def test_samples_that_cannot_be_written_are_named(toys, tmp_path):
    (tmp_path / "samples").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*samples.*choose another folder"):
        toys[1].export(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_disk_that_samples_do_not_fit_on_is_told(toys, small_disk, monkeypatch):
    monkeypatch.setattr(package, "read_samples", lambda: {"README.md": bytes(2 << 20)})
    with pytest.raises(RunFailed, match=r"cannot write .*README\.md: No space left on device; free some space"):
        toys[1].export(small_disk / "out")
    assert not (small_disk / "out" / "manifest.json").exists()


def test_an_export_to_a_read_only_disk_is_told(toys, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RunError, match=r"cannot write .*: Read-only file system"):
        toys[1].export(small_disk / "out")


def test_export_says_where_the_samples_are(finished, tmp_path, capsys):
    assert main(["export", str(finished.folder.path), "--out", str(tmp_path / "out")]) == 0
    assert f"a web page: {tmp_path / 'out' / 'samples'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "samples" / "README.md").exists()


def test_the_manifest_says_how_pictures_were_resized(prepared, tmp_path):
    wanted = ModelInput((8, 8), (0.5,), (0.5,), interpolation="bicubic", crop=0.9)
    for resize, expected in [("crop", ("crop", "bicubic", 0.9)), ("stretch", ("stretch", "bicubic", 1.0))]:
        changed = dataclasses.replace(
            prepared,
            data=dataclasses.replace(prepared.data, wanted=wanted),
            experiment=prepared.experiment.override({"data.resize": resize}),
        )
        folder = RunFolder(tmp_path / resize)
        row = {"id": "backbone", "static": True, "exits": [], "weights": {"branches": []}, "thresholds": []}
        row |= {"exit_shares": [1.0], "confidence": None}
        profile = HardwareProfile(name="paper", description="d", connection="none")
        out = export_row(row, rebuild(row, changed, folder), changed, tmp_path / resize, profile, folder)
        pixels = json.loads((out / "manifest.json").read_text())["pixels"]
        assert (pixels["resize"], pixels["interpolation"], pixels["crop"]) == expected


# --- Python ---


def classify(case: Case, *pictures: object) -> str:
    return run(sys.executable, case.folder / "samples" / "python" / "classify.py", *pictures)


def test_python(case):
    case.check(classify(case, *case.pictures))


def test_python_needs_nothing_of_aebnas():
    code = (TEMPLATES / "python" / "classify.py").read_text()
    imported = set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"no picture", "cannot identify image file")])
def test_python_names_what_is_no_picture(case, tmp_path, content, said):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    program = case.folder / "samples" / "python" / "classify.py"
    done = subprocess.run([sys.executable, program, tmp_path / "x.png"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf".*x\.png cannot be read as a picture: .*{said}.*\n", done.stderr)


@pytest.fixture
def floats(toys, tmp_path):
    """An export whose data are no 8-bit pixels."""
    toy = toys[1]
    export_network(
        tmp_path / "floats",
        segments=toy.segments,
        branches=toy.branches,
        policy=toy.policy,
        input_shape=(2, 8, 8),
        classes="abc",
        preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        costs={},
        extra={},
    )
    return tmp_path / "floats"


def test_python_says_why_a_network_takes_no_pictures(floats):
    program = floats / "samples" / "python" / "classify.py"
    done = subprocess.run([sys.executable, program, "x.png"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"this network takes no pictures as they are: .* no 8-bit pixels: .*\n", done.stderr)


# --- JavaScript ---


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """The node_modules of the samples, from npm's registry; they are large, so they go when the tests are done."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm on this machine")
    root = tmp_path_factory.mktemp("npm")
    found = {}
    for name in ("javascript", "web"):
        shutil.copytree(TEMPLATES / name, root / name)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=root / name, capture_output=True, text=True, check=False, timeout=180)
        except subprocess.TimeoutExpired:
            shutil.rmtree(root)
            pytest.skip("npm install takes too long here")
        if done.returncode:
            shutil.rmtree(root)
            pytest.skip(f"npm install does not work here: {done.stderr.strip()[-200:]}")
        found[name] = root / name / "node_modules"
    yield found
    shutil.rmtree(root)


@pytest.fixture
def script(case, installed) -> Iterator[Path]:
    """The JavaScript sample of the case, with what it needs beside it."""
    folder = case.folder / "samples" / "javascript"
    (folder / "node_modules").symlink_to(installed["javascript"])
    yield folder / "classify.mjs"
    (folder / "node_modules").unlink()


def test_javascript(case, script):
    case.check(run("node", script, *case.pictures))


def test_javascript_names_what_is_no_picture(script, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    for words, said in [
        ([tmp_path / "x.png"], r".*x\.png cannot be read as a PNG or JPEG picture: .*\n"),
        ([], "give.*\n"),
    ]:
        done = subprocess.run(["node", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert re.fullmatch(said, done.stderr)


def test_javascript_reads_jpeg(case, script, tmp_path):
    """Photos in all positions of the camera, too."""
    paths, exif = [], Image.Exif()
    for number, picture in enumerate(case.pictures):
        paths.append(tmp_path / f"{picture.stem}.jpg")
        exif[0x0112] = 1 + number % 8
        with Image.open(picture) as opened:
            opened.save(paths[-1], quality=100, subsampling=0, exif=exif)
    found, said = (
        [LINE.fullmatch(line)["name"] for line in lines.splitlines()]
        for lines in (run("node", script, *paths), classify(case, *paths))
    )
    # Decoders differ in the last bit.
    assert np.mean([one == other for one, other in zip(found, said, strict=True)]) >= 0.8


RESIZE = """
import { readFileSync } from "node:fs";
import { asModelInput } from "%s";
for (const [file, width, height, pixels] of JSON.parse(readFileSync(0, "utf8"))) {
  console.log(Buffer.from(asModelInput(readFileSync(file), width, height, pixels)).toString("hex"));
}
"""
# Sizes (H, W) of pictures and of what a network takes: smaller, larger, along one axis only, the same.
SIZES = [((40, 30), (7, 9)), ((5, 6), (16, 16)), ((20, 8), (8, 8)), ((9, 13), (8, 8)), ((8, 8), (8, 8))]
FORMS = [
    {"resize": resize, "interpolation": interpolation, "crop": crop}
    for resize, crop in [("stretch", 1.0), ("crop", 1.0), ("crop", 0.875), ("pad", 1.0)]
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos")
]


def test_javascript_resizes_as_python_does(tmp_path):
    """To one step of 255, for Pillow takes the axes in either order and rounds in between; in grey and in colour."""
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    random, asked, expected = np.random.default_rng(0), [], []
    for number, (size, to) in enumerate(SIZES):
        rgba = random.integers(0, 256, (*size, 4), dtype=np.uint8)
        (tmp_path / str(number)).write_bytes(rgba.tobytes())
        for (channels, mode), form in itertools.product([(1, "L"), (3, "RGB")], FORMS):
            pixels = {"shape": [1, *to, channels], "white": 255, **form}
            asked.append([str(tmp_path / str(number)), size[1], size[0], pixels])
            picture = sample().resized(Image.fromarray(rgba[..., :3]).convert(mode), pixels)
            expected.append(np.asarray(picture).astype(int).ravel())
    code = RESIZE % (TEMPLATES / "javascript" / "picture.mjs")
    found = run("node", "--input-type=module", "-e", code, input=json.dumps(asked)).split()
    off = []
    for text, wanted, (*_, pixels) in zip(found, expected, asked, strict=True):
        got = np.frombuffer(bytes.fromhex(text), np.uint8)
        off.append(int(np.abs(got - wanted).max()))
        assert off[-1] <= (pixels["interpolation"] != "nearest"), pixels
    assert np.mean(off) < 0.1


UPRIGHT = """
import { readFileSync } from "node:fs";
import { orientationOf, upright } from "%s";
const { exif, picture, width, height } = JSON.parse(readFileSync(0, "utf8"));
const bytes = (hex) => (hex === null ? undefined : Uint8Array.from(Buffer.from(hex, "hex")));
for (const block of exif) {
  const turned = upright({ data: bytes(picture), width, height }, orientationOf(bytes(block)));
  console.log(turned.width, turned.height, Buffer.from(turned.data).toString("hex"));
}
"""


def test_javascript_turns_photos_as_python_does():
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8), "RGBA")
    blocks, expected = [], []
    for orientation, order in itertools.product(range(10), "<>"):
        tag = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
        other = struct.pack(f"{order}HHII", 0x0100, 4, 1, 7)
        start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 2)
        blocks.append(b"\0" + start + other + tag + bytes(4))
        picture.getexif()[0x0112] = orientation
        expected.append(ImageOps.exif_transpose(picture))
    blocks += [None, blocks[-1][:20], b"\0", b""]
    expected += [picture] * 4
    given = {"exif": [None if block is None else block.hex() for block in blocks], "picture": picture.tobytes().hex()}
    code = UPRIGHT % (TEMPLATES / "javascript" / "upright.mjs")
    said = run("node", "--input-type=module", "-e", code, input=json.dumps({**given, "width": 7, "height": 5}))
    assert said.splitlines() == [f"{one.width} {one.height} {one.tobytes().hex()}" for one in expected]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_python_resizes_as_the_data_set_did(size):
    (height, width), to = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for form in FORMS:
        expected = ImageForm(size=to, **form).pixels(Image.fromarray(values)).transpose(1, 2, 0)
        pixels = {"shape": [1, *to, 3], "white": 255, **form}
        np.testing.assert_array_equal(sample().resized(Image.fromarray(values), pixels), expected, err_msg=str(form))


@pytest.mark.parametrize("way", ["portrait", "deep"])
def test_python_reads_pictures_as_the_data_set_did(tmp_path, way):
    """Turned upright, and of 16 bits the upper ones."""
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / "x.png"
    if way == "portrait":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(values).save(path, exif=exif)
    else:
        Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(path)
    form = ImageForm(size=(4, 5))
    with Image.open(path) as opened:
        expected = form.pixels(opened).transpose(1, 2, 0)
    pixels = {"shape": [1, 4, 5, 3], "white": 255, **FORMS[1]}
    np.testing.assert_array_equal(sample().read_picture(str(path), pixels)[0], expected)


@functools.cache
def sample() -> ModuleType:
    """The Python sample, as a module."""
    spec = importlib.util.spec_from_file_location("classify", TEMPLATES / "python" / "classify.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


# --- the page ---


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve ``folder`` on the loopback device as ``python -m http.server`` does."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
def served(case, installed) -> Iterator[str]:
    folder = case.folder / "samples" / "web"
    (folder / "node_modules").symlink_to(installed["web"])
    with serving(case.folder) as address:
        yield f"{address}/samples/web/"
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
    if target := os.environ.get("AEBNAS_SCREENSHOTS"):
        page.emulate_media(color_scheme="light")
        page.screenshot(path=f"{target}/{case.folder.name}-light.png")
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=f"{target}/{case.folder.name}-dark.png")


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


def test_page_says_what_is_missing(case, open_page, floats):
    with serving(case.folder) as address:
        page = open_page(f"{address}/samples/web/").page
        page.get_by_text("onnxruntime-web is missing: run `npm install` in samples/web").wait_for()
        assert page.get_by_label("Choose a picture").is_disabled()
    with serving(case.folder / "samples" / "web") as address:
        page = open_page(f"{address}/index.html").page
        page.get_by_text("is not there: let the server serve the whole exported folder").wait_for()
    with serving(floats) as address:
        page = open_page(f"{address}/samples/web/").page
        page.get_by_text("This network takes no pictures as they are: the data's values were scaled by 1").wait_for()
    page = open_page((case.folder / "samples" / "web" / "index.html").as_uri()).page
    page.get_by_text("run `python -m http.server` in the exported folder").wait_for()


# --- C++ ---


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    """The C++ sample, compiled against the ONNX Runtime in ONNXRUNTIME_ROOT, or one that the compiler finds itself."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("there is no cmake or no C++ compiler on this machine")
    build = tmp_path_factory.mktemp("cpp")
    command = ["cmake", "-S", TEMPLATES / "cpp", "-B", build, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"]
    if root := os.environ.get("ONNXRUNTIME_ROOT"):
        command.append(f"-DONNXRUNTIME_ROOT={root}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ONNXRUNTIME" in done.stderr:
        pytest.skip("there are no headers of ONNX Runtime on this machine: set ONNXRUNTIME_ROOT to an unpacked release")
    assert done.returncode == 0, done.stderr
    run("cmake", "--build", build)
    return build / "classify"


def test_cpp(case, program, tmp_path):
    paths = []
    for picture in case.pictures:
        with Image.open(picture) as opened:
            paths.append(tmp_path / f"{picture.stem}.{'pgm' if opened.mode == 'L' else 'ppm'}")
            opened.save(paths[-1])
    Case(case.folder, paths, case.expected, case.classes).check(run(program, case.folder, *paths))
