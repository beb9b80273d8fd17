from __future__ import annotations

import pytest

from isoflop.record.file import replacing


def broken_off(path):
    with replacing(path) as new:
        new.write_text("half")
        raise RuntimeError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "report.html"
    with replacing(path) as new:
        assert new.suffix == ".html"
        new.write_text("first")
        assert not path.exists()
    with pytest.raises(RuntimeError):
        broken_off(path)
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
