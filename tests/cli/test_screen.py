"""JSON for machines."""

from __future__ import annotations

import json
import math

from isoflop.cli.screen import put_json


def test_json_has_null_for_what_it_cannot_say(capsys):
    put_json({"a": (1, math.nan, [math.inf, 0.5]), "b": {"c": -math.inf, "d": "nan"}})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None, [None, 0.5]], "b": {"c": None, "d": "nan"}}
