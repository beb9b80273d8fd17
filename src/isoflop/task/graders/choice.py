"""One of several options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final

from isoflop.task.base import Grader, Question
from isoflop.task.completion import Take, places, undecorated
from isoflop.task.graders.exact import normal

_LETTERS = "ABCDEFGHIJ"
_ALONE = re.compile(r"\(?([A-Ja-j])\)?[.):]?")
# A letter that opens a phrase as a label does, "B) Paris", "B. Paris", "B, since ...", not as an article: "A cat".
_LABEL = re.compile(
    r"\(?([A-J])\)\s*(.*)|([A-J])(?:[.:]\s+|\s+[-–]\s+)(.*)|([A-J])(?:[,;]|\s+(?:because|since|as)\b).*", re.S
)
_CALLED = re.compile(
    r"(?:the\s+)?(?:option|choice|answer|letter)\s+\(?([A-J])\b\)?(?!')(.*)", re.IGNORECASE | re.DOTALL
)
_ANOTHER = re.compile(r"\s*(?:,|/|&|\band\b|\bor\b)\s*\(?[A-J]\b(?!\s+[a-z])")
_ENUMERATED = re.compile(r"^[ \t]*+[*_]*+\(?([A-J])[).:]", re.MULTILINE)
_MENTION = re.compile(r"\(([A-J])\)|\b[Oo]ption\s+([A-J])\b")
_CONCLUDED = re.compile(r"\b(?:is|are|was|were|be)\s+(?:the\s+)?(.+)$", re.DOTALL)


@final
@dataclass(frozen=True, slots=True)
class Choice(Grader):
    """The answer is one of the options A, B, C, ...: named by its letter, or by its text where `choices` lists them.

    Looks in a box, after "the answer is", at the first line, at the last line, and then for the only option that is
    mentioned as "(B)" or "option B". A letter counts where it stands as a label, so "A cat" is not option A. Two
    letters, a letter with the text of another option, and a discussion of one option a line are no answer.

    Args:
        choices: the texts of the options in order; without them, the letters A to J.
        take: where in a completion the answer is.
    """

    choices: tuple[str, ...] = ()
    take: Take = "auto"

    def __post_init__(self) -> None:
        forms = [normal(choice) for choice in self.choices]
        if len(forms) == 1 or len(forms) > len(_LETTERS) or len(set(forms)) < len(forms):
            raise ValueError(f"choices must be 2 to {len(_LETTERS)} different texts")

    def extract(self, text: str) -> str | None:
        """The letter of the option, in upper case."""
        enumerates = len(set(_ENUMERATED.findall(text))) > 1
        for place, piece in places(text, self.take, "first_line", "last_line", "whole"):
            if place == "whole":
                mentioned = _mentioned(piece)
                return mentioned.pop() if len(mentioned) == 1 and mentioned <= set(self._letters) else None
            if not (enumerates and place.endswith("_line")) and (letter := self._letter(piece)):
                return letter
        return None

    def canonical(self, answer: str) -> str:
        """The letter of the option, or the words if they are none."""
        return self._letter(answer) or normal(answer)

    def rejects(self, question: Question) -> str | None:
        """Why the right answer is none of the options."""
        for right in (question.answer, *question.aliases):
            if self._letter(right) is None:
                options = ", ".join(self._letters) + (" or the text of a choice" if self.choices else "")
                return f"the answer {right!r} names no option; write {options}"
        return None

    @property
    def _letters(self) -> str:
        return _LETTERS[: len(self.choices) or None]

    def _letter(self, piece: str) -> str | None:
        """The option that a phrase names."""
        phrase = undecorated(piece)
        if match := _ALONE.fullmatch(phrase):
            letter, rest = match[1].upper(), ""
        elif match := _CALLED.fullmatch(phrase) or _LABEL.fullmatch(phrase):
            groups = [group for group in match.groups() if group is not None]
            letter, rest = groups[0].upper(), groups[1] if len(groups) > 1 else phrase[1:]
            if _ANOTHER.match(rest):
                return None
        else:
            concluded = _CONCLUDED.search(phrase)
            return self._of_text(phrase) or (self._of_text(concluded[1]) if concluded else None)
        others = {letter} ^ {self._of_text(rest) or letter, *_mentioned(phrase), letter}
        return letter if letter in self._letters and not others else None

    def _of_text(self, text: str) -> str | None:
        form = normal(text)
        return next((letter for letter, choice in zip(_LETTERS, self.choices) if normal(choice) == form), None)


def _mentioned(text: str) -> set[str]:
    """The options spoken of as "(B)" or "option B"."""
    return {in_brackets or called for in_brackets, called in _MENTION.findall(text)}
