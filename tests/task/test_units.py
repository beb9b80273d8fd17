from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.task.units import Unit, read_unit, respelled


@pytest.mark.parametrize(
    ("a", "b", "factor"),
    [
        ("km", "m", 1000),
        ("kilometers", "metres", 1000),
        ("inches", "cm", Fraction("2.54")),
        ("feet", "inches", 12),
        ("miles per hour", "mph", 1),
        ("km/h", "m/s", Fraction(10, 36)),
        ("kWh", "MJ", Fraction("3.6")),
        ("J", "N·m", 1),
        ("N m", "J", 1),
        ("m/s^2", "N/kg", 1),
        ("m s^-1", "m/s", 1),
        ("square meters", "m²", 1),
        ("cubic cm", "mL", 1),
        ("litre", "L", 1),
        ("hours", "min", 60),
        ("GB", "Mbit", 8000),
        ("MiB", "B", 1 << 20),
        ("µm", "nm", 1000),
        ("percent", "%", 1),
        ("dollars", "$", 1),
        ("years", "months", 12),
        ("J/(kg K)", "m^2/s^2/K", 1),
    ],
)
def test_conversion(a: str, b: str, factor: Fraction) -> None:
    first, second = read_unit(a), read_unit(b)
    assert first is not None
    assert second is not None
    assert first.dimension == second.dimension
    assert first.factor / second.factor == factor


@pytest.mark.parametrize(
    ("a", "b"),
    [("m", "s"), ("kg", "N"), ("°C", "K"), ("°C", "°F"), ("$", "€"), ("year", "day"), ("m", "m^2"), ("lb", "£")],
)
def test_other_dimensions_are_not_converted(a: str, b: str) -> None:
    first, second = read_unit(a), read_unit(b)
    assert first is not None
    assert second is not None
    assert first.dimension != second.dimension


@pytest.mark.parametrize("text", ["parsecs", "", "apples", "x+1", "m/apples", "^2", "5", "kkm", "mM", "METERZ"])
def test_unknown(text: str) -> None:
    assert read_unit(text) is None


def test_a_symbol_counts_as_it_is_written_and_a_word_in_any_case() -> None:
    assert read_unit("mW") != read_unit("MW")
    assert read_unit("Meters") == read_unit("meters") == read_unit("m")
    assert read_unit("min") == Unit(Fraction(60), (("s", 1),))  # not a milli-inch


@given(st.sampled_from(["m", "kg", "s", "N", "kWh"]), st.integers(1, 3))
def test_a_unit_over_itself_is_a_number(name: str, power: int) -> None:
    assert read_unit(f"{name}^{power}/{name}^{power}") == Unit()


def test_respelled() -> None:
    assert respelled("20 degrees Celsius, 5 per cent, 3 feet squared") == "20 °C, 5 %, 3 feet^2"
    assert respelled("5 per 3 people") == "5 per 3 people"
