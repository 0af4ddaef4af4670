"""Profiles: from what is said to what a plan is built for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.build.shape_ranges import DEFAULT_BATCH, NetworkInput, ShapeRange, largest_batch, profiles
from yais.errors import InvalidArgument

IMAGE = NetworkInput("image", (-1, 3, -1, -1))
VECTOR = NetworkInput("vector", (-1, 4))
FIXED = NetworkInput("fixed", (2, 4))


def batch(least, best, most):
    return ShapeRange((least,), (best,), (most,))


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1x3:2x3:4x3", ((1, 3), (2, 3), (4, 3))),
            ("1x3:4x3", ((1, 3), (4, 3), (4, 3))),
            ("4x3", ((4, 3), (4, 3), (4, 3))),
            ("7", ((7,), (7,), (7,))),
        ],
    )
    def test_forms(self, text, expected):
        parsed = ShapeRange.parse(text)
        assert (parsed.least, parsed.best, parsed.most) == expected

    @pytest.mark.parametrize(
        "text", ["", "x", "1x", "axb", "1:2:3:4", "-1x3", "1x3:2", "2:1", "1:3:2", "1,3", "²"]
    )
    def test_what_is_none(self, text):
        with pytest.raises(InvalidArgument):
            ShapeRange.parse(text)

    @settings(deadline=None)
    @given(st.lists(st.tuples(*[st.integers(0, 9)] * 3).map(sorted), min_size=1, max_size=4))
    def test_text_reads_as_it_was_written(self, dimensions):
        shapes = ShapeRange(*map(tuple, zip(*dimensions, strict=True)))
        assert ShapeRange.parse(str(shapes)) == shapes


class TestProfiles:
    def test_nothing_said(self):
        (profile,) = profiles([VECTOR, FIXED])
        assert profile == {"vector": ShapeRange((1, 4), (8, 4), (32, 4))}
        assert batch(1, 8, 32) == DEFAULT_BATCH

    def test_fixed_shapes_need_none(self):
        assert profiles([FIXED]) == ()

    def test_batches(self):
        assert profiles([VECTOR], [batch(1, 2, 3)]) == ({"vector": ShapeRange((1, 4), (2, 4), (3, 4))},)

    def test_several_profiles_and_what_is_the_same_in_all(self):
        shapes = {"image": [ShapeRange.parse("1x3x8x8"), ShapeRange.parse("1x3x8x8:4x3x16x16")]}
        first, second = profiles([IMAGE, VECTOR], [batch(1, 1, 4)], shapes)
        assert first["vector"] == second["vector"]
        assert (first["image"], second["image"]) == tuple(shapes["image"])

    @pytest.mark.parametrize(
        ("inputs", "batches", "shapes", "message"),
        [
            (
                [FIXED],
                [batch(1, 1, 1)],
                {},
                r"expected none: the shapes of the network are fixed: fixed \[2, 4\]",
            ),
            ([IMAGE], [], {}, r"input 'image' has dimensions.*--shape image=1x3x1x1"),
            ([VECTOR], [], {"other": ["1x4"]}, "shapes for the input 'other', expected one of vector"),
            ([VECTOR], [batch(1, 1, 8)], {"vector": ["1x4"]}, "expected none: the shapes that are given for"),
            ([VECTOR], [], {"vector": ["1x5"]}, r"expected ones like \[-1, 4\]"),
            ([VECTOR], [], {"vector": ["1x4x1"]}, r"expected ones like \[-1, 4\]"),
            ([FIXED], [], {"fixed": ["1x4:2x4"]}, r"expected ones like \[2, 4\]"),
            (
                [VECTOR],
                [batch(1, 1, 1)] * 2,
                {"vector": ["1x4"] * 3},
                "got 2 ranges for 'batches', expected 1 or 3",
            ),
        ],
    )
    def test_what_does_not_fit(self, inputs, batches, shapes, message):
        ranges = {name: [ShapeRange.parse(text) for text in texts] for name, texts in shapes.items()}
        with pytest.raises(InvalidArgument, match=message):
            profiles(inputs, batches, ranges)


class TestLargestBatch:
    def test_of_one_profile(self):
        assert largest_batch([VECTOR], profiles([VECTOR])) == 32

    def test_of_several(self):
        made = profiles([VECTOR], [batch(4, 8, 8), batch(1, 1, 3)])
        assert largest_batch([VECTOR], made) == 8

    def test_the_inputs_together(self):
        made = profiles([IMAGE, VECTOR], [batch(1, 1, 8)], {"image": [ShapeRange.parse("1x3x8x8:4x3x8x8")]})
        assert largest_batch([IMAGE, VECTOR], made) == 4

    @pytest.mark.parametrize("inputs", [[FIXED], [VECTOR, FIXED], []])
    def test_without_a_batch_dimension(self, inputs):
        assert largest_batch(inputs, profiles(inputs)) == 0

    @pytest.mark.parametrize(
        ("batches", "lacking"), [([(2, 2, 4)], 1), ([(1, 1, 1), (4, 4, 4)], 2), ([(3, 3, 4), (1, 1, 1)], 2)]
    )
    def test_gaps(self, batches, lacking):
        made = profiles([VECTOR], [batch(*each) for each in batches])
        with pytest.raises(InvalidArgument, match=rf"no profile takes a batch of {lacking}, .* 1 to 4"):
            largest_batch([VECTOR], made)

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=5))
    def test_every_batch_up_to_it_is_in_a_profile(self, spans):
        ranges = [batch(least, least, least + more) for least, more in spans]
        made = profiles([VECTOR], ranges)
        covered = {size for each in ranges for size in range(each.least[0], each.most[0] + 1)}
        if covered == set(range(1, max(covered) + 1)):
            assert largest_batch([VECTOR], made) == max(covered)
        else:
            with pytest.raises(InvalidArgument):
                largest_batch([VECTOR], made)
