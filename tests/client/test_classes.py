"""The texts of the classification extension, taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from yais.client.classes import ClassScore, class_scores
from yais.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (b"15.349564:504:COFFEE MUG", ("15.349564", 504, "COFFEE MUG")),
        (b"-4.000000:2", ("-4.000000", 2, "")),
        (b"0.5:1:second:half", ("0.5", 1, "second:half")),
        (b"inf:0:", ("inf", 0, "")),
        ("0.5:7:K\N{LATIN SMALL LETTER A WITH DIAERESIS}se".encode(), ("0.5", 7, "K\xe4se")),
        (b"0.5:7:\xff", ("0.5", 7, "\N{REPLACEMENT CHARACTER}")),
        ("3:0:text", ("3", 0, "text")),  # over HTTP the texts may come as such
    ],
)
def test_a_class(text, score):
    assert class_scores(np.array([text], np.object_)) == [ClassScore(*score)]


def test_the_rows_of_a_batch_follow_each_other():
    texts = np.array([[b"3:0:a", b"2:1:b"], [b"5:4:e", b"1:2:c"]], np.object_)
    assert [score.index for score in class_scores(texts)] == [0, 1, 4, 2]


@pytest.mark.parametrize("text", [b"", b"0.5", b":1:a", b"0.5:one", b"0.5:-1", b"0.5::a"])
def test_what_is_no_class(text):
    with pytest.raises(InvalidArgument, match="as a class, expected VALUE:INDEX or VALUE:INDEX:LABEL"):
        class_scores(np.array([text], np.object_))
