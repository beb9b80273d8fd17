"""A study of cheaper models on the screen and as a page."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402
from tests.run.shrink.toys import Fail, Gated, No, Skip, build, task  # noqa: E402

from isoflop.report.shrink import render, tables  # noqa: E402
from isoflop.run.shrink import shrink  # noqa: E402


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study") / "kept"
    methods = [Skip(), Gated(), No(), Fail("</script><b>")]
    return shrink(build(), task(), "0.9x", 1e6, [], axis="flops", only=methods, folder=folder)


def printed(study, width):
    console = Console(width=width, force_terminal=False)
    with console.capture() as shown:
        for part in tables(study, width):
            console.print(part)
    return shown.get()


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_shows_each_technique_with_its_verdict(study, width):
    shown = printed(study, width)
    assert max(map(len, shown.splitlines())) <= width
    flat = re.sub(r"[\s│]+", " ", shown)
    for words in ("Use skip@0", "chosen", "refused: there is nothing here", "failed: TypeError", "earned back after"):
        assert words in flat


def test_the_page_shows_the_same_and_lets_no_other_script_run(study):
    page = render(study)
    assert "<h1>Use skip@0 (without the layer that changes nothing)" in page
    assert "refused: there is nothing here that it handles" in page
    assert "</script><b>" not in page
    assert re.findall(r'<div id="(frontier-\w+)"', page) == [
        "frontier-wall_s",
        "frontier-flops",
        "frontier-bytes_moved",
        "frontier-peak_bytes",
    ]
    assert not re.search(r'(src|href)="http', page.partition("<script>")[0])
    assert page.count("'sha256-") == 2
