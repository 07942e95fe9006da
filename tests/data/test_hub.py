"""Data sets from a Hub of Hugging Face, as its library asks for them; the Hub is this machine."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

library = pytest.importorskip("datasets", reason="datasets (extra huggingface) is not installed")
NAME = "somebody/pictures"
REVISION = "0123456789abcdef0123456789abcdef01234567"
# Where the Hub is, its library reads once, so every try is a process of its own.
TRIES = """\
import json, sys
from pathlib import Path
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

for name, download in json.loads(sys.argv[2]):
    settings = DataSettings(name=f"huggingface:{name}", data_dir=Path(sys.argv[1]), download=download, workers=0)
    try:
        data = load_data(settings, seed=0)
    except DataError as error:
        print(json.dumps(str(error)))
        continue
    sizes = [len(data.train), len(data.validation), len(data.test)]
    print(json.dumps([data.classes, sizes, data.test.raw().tolist(), data.fingerprint]))
"""


class Hub(SimpleHTTPRequestHandler):
    """What the library asks of a Hub about one public data set: what it is, which files it has, their content."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        about, content = f"/api/datasets/{NAME}", f"/datasets/{NAME}/resolve/"
        if path in (about, f"{about}/revision/main", f"{about}/revision/{REVISION}"):
            siblings = [{"rfilename": name} for name in self.files]
            self.tell({"id": NAME, "sha": REVISION, "private": False, "siblings": siblings, "tags": []})
        elif path.startswith(f"{about}/tree/"):
            self.tell(self.listing(path.removeprefix(f"{about}/tree/").partition("/")[2]))
        elif path.startswith(content):
            self.give(path.removeprefix(content).partition("/")[2])
        else:
            self.answer(b"", 404)

    do_HEAD = do_GET

    def listing(self, folder):
        inside = [name for name in self.files if name.startswith(folder)]
        folders = {name.rpartition("/")[0] for name in inside} - {"", folder}
        return [
            *({"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)),
            *(
                {"type": "file", "path": name, "oid": self.digest(name), "size": len(self.files[name])}
                for name in inside
            ),
        ]

    def give(self, name):
        if name in self.files:
            self.answer(self.files[name], 200, {"ETag": f'"{self.digest(name)}"', "X-Repo-Commit": REVISION})
        else:
            self.answer(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})

    def tell(self, values):
        self.answer(json.dumps(values).encode(), 200, {"Content-Type": "application/json"})

    def answer(self, content, status, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def digest(self, name):
        return hashlib.sha1(self.files[name]).hexdigest()


def table(count, seed):
    images = np.random.default_rng(seed).integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=["cat", "dog", "eel"])})
    rows = {"image": list(images), "label": [row % 3 for row in range(count)]}
    return images, library.Dataset.from_dict(rows, features=features)


@pytest.fixture
def hub(tmp_path, serve):
    """Its address, the images of the test split, and the paths that it was asked for."""
    files, found = {}, {}
    for seed, (part, count) in enumerate((("train", 30), ("test", 9))):
        found[part], rows = table(count, seed)
        rows.to_parquet(tmp_path / "rows.parquet")
        files[f"data/{part}-00000-of-00001.parquet"] = (tmp_path / "rows.parquet").read_bytes()
    asked: list[str] = []
    handler = type("Pictures", (Hub,), {"files": files, "asked": asked})
    return serve(tmp_path, handler), found["test"], asked


def tries(tmp_path, address, *settings):
    """Try names of data sets, and whether they may be downloaded, in one process; return what came of each."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment = {**kept, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
    environment["AEBNAS_CACHE_DIR"] = str(tmp_path / "looks")
    command = [sys.executable, "-c", TRIES, str(tmp_path / "cache"), json.dumps(settings)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", '"'))]


def test_a_data_set_is_downloaded_once_and_only_if_it_is_asked_for(hub, tmp_path):
    address, images, asked = hub
    (refused,) = tries(tmp_path, address, (NAME, False))
    assert refused.startswith(f"{NAME} cannot be loaded with datasets")
    assert refused.endswith("set data.download to true to get it, or data.data_dir to the cache that has it")
    assert asked == []
    unknown, loaded = tries(tmp_path, address, ("somebody/nothing", True), (NAME, True))
    assert unknown.startswith("somebody/nothing cannot be loaded with datasets")
    assert unknown.endswith("check its name, data.options and the network")
    classes, sizes, pixels, _ = loaded
    assert (classes, sizes) == (["cat", "dog", "eel"], [24, 6, 9])
    np.testing.assert_array_equal(np.array(pixels), images.transpose(0, 3, 1, 2))
    files = [path for path in asked if path.endswith(".parquet")]
    assert len(set(files)) == 2
    # From now on it is there: without the Hub, and with one that cannot be reached.
    asked.clear()
    assert tries(tmp_path, address, (NAME, False)) == [loaded]
    assert asked == []
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"http://127.0.0.1:{server.getsockname()[1]}"
    assert tries(tmp_path, gone, (NAME, True)) == [loaded]
