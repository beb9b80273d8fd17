from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from isoflop.frontier import FrontierError

picture = pytest.importorskip("isoflop.report.picture", reason="needs the extra plot")


def test_the_same_study_gives_the_same_picture(study, tmp_path):
    picture.write(study, tmp_path / "a.svg")
    picture.write(study, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    ET.fromstring((tmp_path / "a.svg").read_text())


def test_names_are_text_whatever_they_hold(hostile, tmp_path):
    picture.write(hostile, tmp_path / "a.png", axis="flops")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_refusals_leave_nothing_behind(study, empty, tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        picture.write(study, tmp_path / "a.gif")
    with pytest.raises(FrontierError, match="no records"):
        picture.write(empty(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
