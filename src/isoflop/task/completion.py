r"""Where in a completion the answer stands.

Models box it (`\boxed{12}`), state it ("the answer is 12", "Answer: 12", "#### 12"), or simply begin with it. Graders
look in this order unless their option `take` names one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

Take = Literal["auto", "boxed", "stated", "first_line", "last_line", "whole"]
"""Which part of a completion holds the answer; `auto` is the grader's own order of looking."""

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")
_ALL_TEXT = re.compile(r"^\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{\s*([^{}]*?)\s*\}$")
_STATED = re.compile(
    r"""
    (?:
        ^[ \t]*\#{3,4}[ \t]                                             # GSM8K's mark
      | \b(?:answers?|(?:correct|right|best)[ ](?:option|choice))\b (?:[ ]to\b[^.:\n]{0,80}?)? [*_ \t]*
        (?: \b(?:is|are|was|would[ ]be|must[ ]be|should[ ]be)\b[*_ \t]*:? | : ) # the answer is; Answer:; **Answer**:
    )
    [*_ \t]*+ \n?+ \n?+ (?!not\b)
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
# A full stop ends a sentence unless it ends an abbreviation or an initial ("St. Petersburg", "J. K. Rowling").
_SENTENCE_END = re.compile(
    r"(?<!\bSt)(?<!\bMt)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bJr)(?<!\b[A-Z])[.!?](?=\s+\S)"
)
# A base model that has answered goes on to invent the next question.
_NEXT_QUESTION = re.compile(r"\n[ \t]*+(?:Q|Question|User|Human)[ \t]*+\d*+[ \t]*+:")


def response(text: str) -> str:
    """What a completion says to the user: without the thinking before it and invented questions after it.

    Empty if the thinking did not end.

    >>> response("<think>Rome? No.</think> Paris\\n\\nQuestion: And Spain?")
    ' Paris'
    """
    _, closed, said = text.rpartition("</think>")
    if not closed and "<think>" in text:
        return ""
    said = (said if closed else text).strip("\n").rstrip()  # indentation may be a program's
    return _NEXT_QUESTION.split(said, maxsplit=1)[0].rstrip()


def boxed(text: str) -> str | None:
    r"""The contents of the last `\boxed{}`, braces balanced; None without one or if it was cut off.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    depth, start = 1, boxes[-1].end()
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[start : brace.start()].strip() or None
    return None


def stated(text: str) -> str | None:
    """What follows the last "the answer is", "Answer:" or "####", up to the end of its sentence.

    >>> stated("Two and two. So the answer is **4**. Done!")
    '4'
    """
    marks = list(_STATED.finditer(text))
    return first_sentence(text[marks[-1].end() :]) if marks else None


def first_sentence(text: str) -> str | None:
    """The first sentence of the first line, without marks of emphasis and full stop."""
    line = first_line(text)
    return undecorated(_SENTENCE_END.split(line, maxsplit=1)[0]) or None if line else None


def first_line(text: str) -> str | None:
    """The first line that is not empty."""
    return next((line.strip() for line in text.split("\n") if line.strip()), None)


def last_line(text: str) -> str | None:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), None)


def undecorated(text: str) -> str:
    """A piece of a sentence without emphasis around it and stops after it."""
    bare = text.strip().strip("*_`").rstrip(".!;,:").strip().strip("*_`").strip()
    return _ALL_TEXT.sub(r"\1", bare)


def places(text: str, take: Take, *otherwise: Take) -> Iterator[tuple[Take, str]]:
    """The places of a completion where the answer may stand, best first.

    Args:
        text: the completion.
        take: the one place to look; for `auto`, the box (alone, if one was opened), the statement, then `otherwise`.
        otherwise: further places for `auto`.
    """
    said = response(text)
    if take != "auto":
        looked_at: tuple[Take, ...] = (take,)
    elif _BOX.search(said):
        looked_at = ("boxed",)
    else:
        looked_at = ("stated", *otherwise)
    for place in looked_at:
        if piece := _PLACES[place](said):
            yield place, piece


_PLACES: dict[Take, Callable[[str], str | None]] = {
    "boxed": boxed,
    "stated": stated,
    "first_line": first_line,
    "last_line": last_line,
    "whole": str,
}
