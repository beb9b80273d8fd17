from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from isoflop.frontier import FrontierError
from isoflop.report import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


class Page(HTMLParser):
    """The elements of a page, the text in them, and its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.data, self._within = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._within = "data" if dict(attrs).get("id") == "data" else tag

    def handle_data(self, data):
        if self._within == "data":
            self.data += data
        elif self._within not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag):
        self._within = ""


def test_it_is_self_contained(study):
    page = html.render(study)
    assert page.count("<script") == 3 + _scripts_in_plotly(page)
    for tag, attributes in Page(page).tags:
        assert not {"src", "href"} & set(attributes), tag
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1].partition("script-src")[2].partition(";")[0]


def _scripts_in_plotly(page: str) -> int:
    plotly = page[page.index("<script>") + len("<script>") :]
    return plotly.count("<script") - 1


def test_hostile_words_stay_words(hostile):
    page = html.render(hostile)
    assert "<img" not in page.replace(_plotly(), "")
    parsed = Page(page)
    assert all(tag != "img" for tag, _ in parsed.tags)
    assert "</script><img src=x onerror=" in parsed.text
    assert json.loads(parsed.data)["axes"]["flops"]["curves"][0]["name"].count("</script>") == 1


def _plotly() -> str:
    return (html.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def test_sections_and_reasons_are_there(study, hostile):
    text = Page(html.render(study)).text
    for heading in ("Frontier", "Coverage", "Difficulty", "Where it went", "Provenance"):
        assert heading in text
    assert "nothing was spent in wall_s" in text
    assert "Failed or skipped" not in text
    text = Page(html.render(hostile)).text
    assert "Failed or skipped" in text
    assert re.search(r"cost in usd of .* is unknown", text)


def test_data_are_the_findings(study):
    data = json.loads(Page(html.render(study, "flops")).data)
    assert data["axis"] == "flops"
    assert data["axes"]["wall_s"].keys() == {"why"}
    curve = next(c for c in data["axes"]["tokens_out"]["curves"] if c["name"].startswith("self_consistency"))
    assert curve["step"] == [0, 1, 2, 3]
    assert all(low <= y <= high for low, y, high in zip(curve["low"], curve["y"], curve["high"], strict=True))
    assert [len(m["p"]) for m in data["difficulty"]] == [60, 60]
    assert data["coverage"][0]["law"]["k"][-1] == pytest.approx(80)


def test_writing_is_whole_or_not_at_all(study, empty, tmp_path):
    with pytest.raises(FrontierError):
        html.write(study, tmp_path / "r.html", "wall_s")
    assert list(tmp_path.iterdir()) == []
    html.write(empty(), tmp_path / "r.html")
    assert "no records" in (tmp_path / "r.html").read_text()


def test_long_curves_are_thinned_to_their_ends():
    places = html._thinned(5000)
    assert len(places) <= 120
    assert (places[0], places[-1]) == (0, 4999)
    assert html._thinned(3) == [0, 1, 2]


# In a real browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens a study's page in a headless browser: the document as it then is, and what the console said."""

    def look(study, fragment: str = "") -> tuple[str, str]:
        folder = tmp_path_factory.mktemp("browser")
        html.write(study, folder / "report.html")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=3000",
            "--window-size=1200,1000",
        ]
        done = subprocess.run(
            [CHROMIUM or "", *flags, "--dump-dom", f"{(folder / 'report.html').as_uri()}{fragment}"],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        dom = re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.DOTALL)
        return dom, "\n".join(said)

    return look


@browser
def test_plots_are_drawn_without_a_word_on_the_console(study, opened):
    dom, said = opened(study, "#axis=wall_s")  # which is free here and cannot be shown: the page keeps to its own
    assert said == ""
    root = dom[dom.index("<html") : dom.index("<head")]
    assert 'data-ready="1"' in root
    assert "data-errors" not in root
    assert 'data-axis="tokens_out"' in root
    for plot in ("frontier", "coverage", "difficulty", "ledger"):
        assert f'id="{plot}" class="plot' in dom
    assert dom.count('class="scatterlayer') >= 3
    assert len(re.findall(r'class="trace scatter', dom)) >= 10 + 4 + 2
    assert 'class="trace bars' in dom
    assert dom.count("NaN") == 0


@browser
def test_hostile_words_run_nothing_and_the_axis_follows_the_address(hostile, opened):
    dom, said = opened(hostile, "#axis=flops&theme=dark")
    root = dom[dom.index("<html") : dom.index("<head")]
    assert said == ""
    assert "data-owned" not in root
    assert 'data-axis="flops"' in root
    assert 'data-theme="dark"' in root
    assert "FLOPs a problem" in dom
    assert "<img" not in dom
    shown = {m[1]: "hidden" not in m[0] for m in re.finditer(r'<section data-axis="(\w+)"[^>]*>', dom)}
    assert shown == {axis: axis == "flops" for axis in shown}
    assert re.search(r'<button type="button" value="usd" disabled', dom)


@browser
def test_a_page_without_a_frontier_still_draws_the_rest(study, empty, opened):
    dom, said = opened(replace(empty(), graded=study.graded))
    assert said == ""
    assert 'data-ready="1"' in dom[: dom.index("<head")]
    assert 'class="trace scatter' in dom
