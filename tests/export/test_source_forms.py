"""Test images of an exported network are brought to the form that it was searched with, without its backbone."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.diagnosing.of_export import _data
from aebnas.export import source
from aebnas.export.manifest import read_manifest
from aebnas.inputs import ModelInput

WANTED = ModelInput((6, 8), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 0.9)


@pytest.fixture
def images(tmp_path):
    """A folder of images of two sizes."""
    pillow = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (9 + number % 2, 12, 3), dtype=np.uint8)
            pillow.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def exported_with(exported, tmp_path):
    """Return the manifest of a network that was searched on ``settings`` for a backbone that wants ``WANTED``."""

    def make(settings, bundle):
        folder = tmp_path / "export"
        shutil.copytree(exported[1], folder)
        path = folder / "manifest.json"
        values = json.loads(path.read_text())
        values |= {"classes": list(bundle.classes), "input_shape": list(bundle.input_shape)}
        values["preprocessing"] = bundle.preprocessing.to_json()
        values["extra"] = {"data": settings.model_dump(mode="json"), "seed": 3, "wanted": asdict(WANTED)}
        path.write_text(json.dumps(values))
        return read_manifest(folder)

    return make


@pytest.mark.parametrize("ram_gib", [0, 2])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_its_own_images_are_the_same_again(images, exported_with, ram_gib, resize):
    settings = DataSettings(name="folder", path=images, normalise="backbone", resize=resize, ram_gib=ram_gib)
    bundle = load_data(settings, seed=3, wanted=WANTED)
    assert bundle.input_shape == (3, 6, 8)
    manifest = exported_with(settings, bundle)
    found, labels = source.test_images(manifest)
    np.testing.assert_array_equal(found, bundle.test.raw().numpy())
    assert labels.tolist() == bundle.test.labels.tolist()
    expected = np.concatenate([batch.images.numpy() for batch in bundle.test.batches(4)])
    np.testing.assert_allclose(manifest.preprocess(found), expected, atol=1e-6)
    assert _data(manifest, None).fingerprint == bundle.fingerprint


def test_other_images_are_brought_to_the_networks_size(images, exported_with, tmp_path):
    settings = DataSettings(name="folder", path=images, grey=True)
    manifest = exported_with(settings, load_data(settings, seed=3, wanted=WANTED))
    table = tmp_path / "other.csv"
    rows = [f"{path},{path.parent.name},{'test' if path.stem in '01' else 'train'}" for path in images.rglob("*.png")]
    table.write_text("\n".join(["path,label,split", *rows]))
    for data in (str(images), str(table)):
        found, labels = source.test_images(manifest, data=data)
        assert (found.shape, sorted(labels.tolist())) == ((4, 1, 6, 8), [0, 0, 1, 1])


@pytest.mark.parametrize("split", ["part", "other"])
def test_another_table_may_have_the_columns_of_the_networks_own(images, exported_with, tmp_path, split):
    rows = [f"{path},{path.parent.name},{'test' if path.stem in '01' else 'train'}" for path in images.rglob("*.png")]
    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    own.write_text("\n".join(["file,kind,part", *rows]))
    columns = {"image": "file", "label": "kind", "split": "part"}
    settings = DataSettings(name="csv", path=own, columns=columns)
    manifest = exported_with(settings, load_data(settings, seed=3, wanted=WANTED))
    other.write_text("\n".join([f"file,kind,{split}", *rows]))
    _, labels = source.test_images(manifest, data=str(other))
    # Without a column of splits, all are scored.
    each = 2 if split == "part" else len(rows) // 2
    assert sorted(labels.tolist()) == [0] * each + [1] * each
    if split == "part":
        np.testing.assert_array_equal(source.test_images(manifest)[0], source.test_images(manifest, data=str(other))[0])
