from __future__ import annotations

import gzip
import itertools
import struct

import numpy as np
import pytest

from aebnas.data.idx import read_idx
from aebnas.errors import DataError

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = struct.pack(">4I", 2051, 2, 3, 4) + ARRAY.tobytes()


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_plain_and_compressed_files_give_the_array(tmp_path, write_idx, name):
    np.testing.assert_array_equal(read_idx(write_idx(tmp_path / name, ARRAY), 3), ARRAY)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a", b"", "0 bytes"),
        ("a", CONTENT[:15], "15 bytes"),
        ("a", struct.pack(">2I", 2049, 32) + bytes(32), "magic number is 2049 instead of 2051"),
        ("a", CONTENT[:-1], r"39 bytes where its header \(2, 3, 4\) asks for 40"),
        ("a", CONTENT + b"x", "41 bytes"),
        ("a.gz", CONTENT, "not a gzip file"),
        ("a.gz", b"", "not a gzip file"),
        ("a.gz", gzip.compress(CONTENT)[:-12], "cut off or corrupt"),
        ("a.gz", gzip.compress(CONTENT)[:10] + bytes(range(255, 200, -1)), "cut off or corrupt"),
        ("a.gz", gzip.compress(CONTENT)[:-8] + bytes(8), "cut off or corrupt"),
        ("a.gz", gzip.compress(CONTENT[:-1]), "39 bytes"),
    ],
    ids=itertools.count(),
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=f"cannot read {tmp_path}"):
        read_idx(tmp_path, 3)
