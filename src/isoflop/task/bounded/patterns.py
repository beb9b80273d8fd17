"""Regular expressions, which can take exponential time."""

from __future__ import annotations

import re
from collections import deque


def matches(pattern: str, text: str, case: bool) -> bool:
    """Whether the pattern matches all of the text."""
    return re.fullmatch(pattern, text, re.DOTALL | (0 if case else re.IGNORECASE)) is not None


def captured(pattern: str, text: str, case: bool) -> str | None:
    """What the pattern's first group, or the pattern, matches last."""
    found = deque(re.finditer(pattern, text, 0 if case else re.IGNORECASE), maxlen=1)
    return found[0][1 if found[0].re.groups else 0] if found else None
