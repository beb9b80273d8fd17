import math

import pytest

from isoflop.sandbox import Limits


@pytest.mark.parametrize(
    ("name", "value"), [("cpu_s", 0), ("wall_s", math.inf), ("memory_bytes", -1), ("cpu_s", math.nan)]
)
def test_limits_must_be_positive_and_finite(name, value):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})
