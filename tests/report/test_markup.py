import json
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aebnas.report.chart import step_chart, ticks
from aebnas.report.markup import Markup, bullets, data_island, joined, table, tag
from aebnas.report.png import THUMBNAIL, png_uri, thumbnails


def test_text_and_attributes_are_escaped_and_markup_is_not():
    assert tag("p", "<b>", Markup("<i></i>"), title='"&') == '<p title="&quot;&amp;">&lt;b&gt;<i></i></p>'
    assert joined(["<", Markup("<br>")], " ") == "&lt; <br>"


def test_attributes_may_stand_without_a_value_be_left_out_or_be_zero():
    assert tag("rect", x=0, class_="a", open=True, hidden=False, role=None) == '<rect x="0" class="a" open></rect>'


def test_tables_name_their_columns_and_rows():
    made = table("what", ("a", "b"), [("x<", 1)])
    assert '<th scope="col">a</th>' in made and '<th scope="row">x&lt;</th><td>1</td>' in made
    assert bullets([]) == ""


@given(st.recursive(st.text() | st.integers() | st.none() | st.booleans(), st.lists, max_leaves=5))
def test_data_in_the_page_ends_no_element_and_comes_back_as_it_was(value):
    made = data_island(value, "data")
    inner = made.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert not set("<>&\u2028\u2029") & set(inner)
    assert json.loads(inner) == value


def test_what_json_has_no_number_for_is_null():
    inner = data_island({"a": [float("nan"), float("inf"), 1.5]}, "x").split(">")[1].split("<")[0]
    assert json.loads(inner) == {"a": [None, None, 1.5]}


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low, span):
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 11
    assert all(low - 1e-6 * span <= one <= low + span + 1e-6 * span for one in found)


def test_a_chart_steps_up_at_every_value_and_marks_what_failed():
    made = step_chart([1, 2, 3], [0.1, 0.2, 0.2], [1], title="<t>", x_label="x", y_label="y")
    assert made.count('class="failed"') == 1 and made.count("V") == 2
    assert "&lt;t&gt;: from 0.100 to 0.200 over 3 trials" in made


def decoded(uri):
    """Read back what was written, without the writer's own code."""
    import base64

    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    width, height, _, color = struct.unpack(">IIBB", data[16:26])
    packed = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    channels = 3 if color == 2 else 1
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    assert (rows[:, 0] == 2).all()
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).reshape(height, width, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_from_their_png(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
    assert (decoded(png_uri(image)) == image).all()


def test_a_png_is_one_for_other_readers_too(tmp_path):
    import base64

    from matplotlib import image as reader

    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    (tmp_path / "a.png").write_bytes(base64.b64decode(png_uri(image).split(",")[1]))
    assert (np.rint(reader.imread(tmp_path / "a.png") * 255).astype(np.uint8) == image).all()


def test_thumbnails_keep_small_images_and_shrink_large_ones():
    small = torch.tensor([[0, 128, 255]], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert thumbnails(small, 1 / 255).reshape(-1).tolist() == [0, 128, 255]
    large = torch.zeros(2, 3, 200, 100)
    assert thumbnails(large, 1.0).shape == (2, THUMBNAIL, THUMBNAIL // 2, 3)


def test_values_that_are_no_natural_ones_are_stretched():
    assert thumbnails(torch.tensor([-2.0, 0.0, 2.0]).reshape(1, 1, 1, 3), 1.0).reshape(-1).tolist() == [0, 128, 255]


def test_of_odd_channels_the_first_is_shown():
    images = torch.stack([torch.full((4, 4), 1.0), torch.zeros(4, 4)])[None]
    assert thumbnails(images, 1.0).shape == (1, 4, 4, 1) and thumbnails(images, 1.0).min() == 255
