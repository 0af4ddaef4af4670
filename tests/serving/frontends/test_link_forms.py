"""Forms by number, on both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.inference.request import ResponseForm
from yais.serving.frontends.form_numbers import FormNumbers, KnownForms
from yais.serving.frontends.form_responses import ResponseForms


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5))
def test_a_number_means_the_same_on_both_ends(keys: list[int], most: int) -> None:
    known = KnownForms()
    told: list[int] = []

    def tell(number: int, form: object) -> None:
        told.append(number)
        known.told(number, form)

    numbers = FormNumbers(tell, most)
    for key in keys:
        number = numbers.number(key, lambda key=key: f"form {key}")  # type: ignore[misc]
        assert known[number] == f"form {key}"
        assert len(known) == len(numbers) <= most
        assert numbers.number(key, lambda: "never made") == number
    assert len(set(told) - {0}) == len([each for each in told if each])  # none is given twice


def test_a_number_that_was_not_told_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="got form 3, expected one that was told before"):
        KnownForms()[3]


def _form(rows: int, **parameters: dict[str, str | int]) -> ResponseForm:
    return ResponseForm("m", "1", (TensorSpec("Y", DataType.FP32, (rows, 4)),), parameters)


def test_equal_forms_of_responses_are_one_object() -> None:
    forms = ResponseForms()
    first = forms.the(_form(2))
    assert forms.the(_form(2)) is first
    assert forms.the(_form(3)) is not first
    placed = _form(2, Y={"shared_memory_region": "r"})
    assert forms.the(placed) is placed  # not the form of those that are not placed


def test_the_form_of_one_of_a_bundle_is_that_of_one_alone() -> None:
    forms = ResponseForms()
    alone = forms.the(_form(2))
    assert forms.single(forms.the(_form(6)), 3) is alone
    assert forms.single(forms.the(_form(8)), 4) is alone
    assert forms.single(forms.the(_form(8)), 2).outputs[0].shape == (4, 4)
