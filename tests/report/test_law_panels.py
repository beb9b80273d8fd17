"""What is drawn of a fit: the right axes for each kind of law, and the law where it says it is."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.law.engine import Objective
from isoflop.law.find import law
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.fitted import Fit
from isoflop.law.spend import optimum
from isoflop.report import law_page
from isoflop.report.law_panels import panels


def fitted(name: str) -> Fit:
    found = law(name)
    x, values = found.example()
    y = found.value(*x, **values) * np.exp(0.003 * np.random.default_rng(0).standard_normal(x.shape[1]))
    return fit_arrays(found, x, y, Objective("least_squares"), Uncertainty(draws=0))


def test_a_law_of_one_input_is_a_curve_that_goes_beyond_the_runs():
    fit = fitted("power_floor")
    curve, miss = panels(fit)
    assert curve.line[0, -1] == pytest.approx(100 * fit.x.max())
    np.testing.assert_allclose(curve.line[1], fit.predict(curve.line[0]).value)
    assert np.all(curve.line[2] <= curve.line[1])
    np.testing.assert_allclose(miss.y, fit.y - fit.predict(fit.x).value)


def test_a_law_of_size_and_data_is_the_best_of_each_budget():
    fit = fitted("chinchilla")
    curve, _ = panels(fit)
    assert curve.across == "training FLOP"
    np.testing.assert_allclose(curve.x, 6 * fit.x[0] * fit.x[1])
    assert curve.line[1, 3] == pytest.approx(float(optimum(fit, float(curve.line[0, 3])).loss.value))
    assert np.all(np.diff(curve.line[1]) < 0)


def test_any_other_law_is_measured_against_predicted():
    curve, _ = panels(fitted("routed"))
    assert (curve.across, curve.log) == ("predicted", False)
    np.testing.assert_allclose(curve.line[0], curve.line[1])


def test_the_page_needs_no_network_and_is_whole_or_not_there(tmp_path):
    law_page.write(fitted("power_floor"), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert '<script src="' not in page
    with pytest.raises(OSError, match="exists"):
        law_page.write(fitted("power_floor"), tmp_path / "a.html" / "b.html")
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]
