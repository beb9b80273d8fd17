"""The same words."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from isoflop.task.base import Grader
from isoflop.task.completion import Take, places, undecorated

_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-"})
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_AROUND_WORDS = "\"'()[]*_`"


@final
@dataclass(frozen=True, slots=True)
class Exact(Grader):
    """The answer is some words: right if they are the same but for case, spaces, punctuation and a leading article.

    Never a part of the answer: "no" is not in "I do not know". What carries meaning stays: 1.5 is not 15, -5 not 5, C++
    not C, 50% not 50. For other ways to say the same, a row lists `aliases`; numbers are better graded by `numeric`.

    Looks for a box, then for "the answer is", then takes the first line.

    Args:
        case: upper and lower case differ.
        take: where in a completion the answer is.
    """

    case: bool = False
    take: Take = "auto"

    def extract(self, text: str) -> str | None:
        """The words of the answer."""
        return next(
            (found for _, piece in places(text, self.take, "first_line") if (found := undecorated(piece))), None
        )

    def canonical(self, answer: str) -> str:
        """The words without what does not count."""
        return normal(answer, self.case)


@lru_cache(maxsize=65536)
def normal(answer: str, case: bool = False) -> str:
    """Words brought to one form.

    >>> normal(" The  Beatles. ") == normal("beatles")
    True
    """
    text = unicodedata.normalize("NFC", _TEXT.sub(r" \1 ", answer)).translate(_QUOTES)
    text = text if case else text.casefold()
    words = (_word(word) for word in re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", text).split())
    kept = [word for word in words if word]
    if len(kept) > 1 and kept[0].casefold() in ("a", "an", "the"):
        del kept[0]
    return " ".join(kept) or " ".join(text.split())


def _word(word: str) -> str:
    """Without punctuation around it, apostrophes in it, dots between initials, and commas between thousands."""
    word = word.strip(_AROUND_WORDS).rstrip(".,;:!?").strip(_AROUND_WORDS).lstrip(",;:!?¿¡")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", word):
        return word.replace(",", "")
    if re.fullmatch(r"([^\W\d]\.)+[^\W\d]", word):
        return word.replace(".", "")
    return re.sub(r"(?<=\w)'(?=\w)", "", word)
