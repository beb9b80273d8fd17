"""Options as words: what is written is read back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.model.options import changed, pairs, read, refuse_unknown


@dataclass(frozen=True)
class Some:
    count: int = 1
    rate: float = 0.5
    unknown: float = math.nan
    maybe: float | None = None
    span: tuple[float, float] = (0.0, 1.0)
    way: Literal["this", "that"] = "this"
    on: bool = True
    name: str = ""


# Numbers are written with 12 digits.
number = st.integers(-(10**6), 10**6).map(lambda i: i / 1000)


@given(
    st.builds(
        Some,
        count=st.integers(-(10**9), 10**9),
        rate=number,
        maybe=st.none() | number,
        span=st.tuples(number, number),
        way=st.sampled_from(["this", "that"]),
        on=st.booleans(),
        name=st.text("abc-_.", max_size=5),
    )
)
def test_what_differs_from_the_defaults_is_written_and_read_back(some: Some):
    words = changed(some)
    back = read(Some, words)
    assert {k: v for k, v in vars(back).items() if k != "unknown"} == {
        k: v for k, v in vars(some).items() if k != "unknown"
    }
    assert "unknown" not in words
    assert changed(back) == words


def test_nothing_is_written_of_defaults():
    assert changed(Some(), Some()) == {}


@pytest.mark.parametrize(
    ("words", "value"),
    [({"count": "2e3"}, 2000), ({"rate": "1e-3"}, 0.001), ({"span": "1:2"}, (1, 2)), ({"on": "false"}, False)],
)
def test_words_are_read_by_the_type_of_their_field(words: dict[str, str], value: object):
    assert getattr(read(Some, words), next(iter(words))) == value


@pytest.mark.parametrize(
    ("name", "word", "says"),
    [
        ("count", "1.5", "count=1.5 is no whole number"),
        ("count", "inf", "whole number"),
        ("rate", "fast", "rate=fast is no number"),
        ("span", "1:2:3", "2 values"),
        ("way", "other", "one of this, that"),
        ("on", "yes", "true or false"),
    ],
)
def test_a_word_that_does_not_fit_says_why(name: str, word: str, says: str):
    with pytest.raises(ValueError, match=says):
        read(Some, {name: word})


def test_pairs_are_taken_apart():
    assert pairs(["a=1", " b=x=y ", ""], "whole") == {"a": "1", "b": "x=y"}
    for bad, says in (("a", "option=value"), ("=1", "option=value")):
        with pytest.raises(ValueError, match=says):
            pairs([bad], "whole")
    with pytest.raises(ValueError, match="twice"):
        pairs(["a=1", "a=2"], "whole")


def test_unknown_names_are_refused_without_their_values():
    refuse_unknown({"count": "1"}, [Some], "some")
    with pytest.raises(ValueError, match=r"no option 'key'; its options are count, rate") as caught:
        refuse_unknown({"key": "secret"}, [Some], "some")
    assert "secret" not in str(caught.value)
