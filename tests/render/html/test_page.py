"""The page without its script: whole, small, the same each time, and closed to the network."""

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from factories import make_entry, make_letters
from many import make_boards, small_boards, small_published

from bench.board.leaderboard import rank
from bench.render.html import page
from bench.render.html.page import render_html
from bench.render.pages import write_html
from bench.render.table import board


class Outline(HTMLParser):
    """Elements in order, and the text of each table cell, style and script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cells, self.raw, self.policy = [], [], [], ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        self._within = tag if tag in ("style", "script") else self._within
        if tag in ("td", "th"):
            self.cells.append("")
        if tag in ("style", "script"):
            self.raw.append((tag, given, ""))
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_endtag(self, tag):
        self._within = "" if tag == self._within else self._within
        if tag == "table":
            self.cells.append("")

    def handle_data(self, text):
        if self._within:
            tag, given, before = self.raw[-1]
            self.raw[-1] = (tag, given, before + text)
        elif self.cells:
            self.cells[-1] += text

    def all(self, tag):
        return [given for name, given in self.elements if name == tag]


@pytest.fixture(scope="module")
def boards():
    return small_boards()


@pytest.fixture(scope="module")
def text(boards):
    return render_html(boards)


def test_render_html_guarantees(boards, text):
    assert render_html({"empty-v1": [], **dict(reversed(boards.items()))}) == text
    assert not re.search(r"20\d\d-\d\d-\d\d[ T](?!09:00)", text)  # no time but the entries' own


def test_the_tables_stand_in_the_page_itself(boards, text):
    outline = Outline(text)
    assert [given["data-track"] for given in outline.all("section")] == ["made-up-v1", "other-v1"]
    assert len(outline.all("caption")) == len(outline.all("table")) == 2
    cells = [cell.strip() for cell in outline.cells]
    for rows in boards.values():
        for line in board(rows).lines:
            recipe = next(cell for cell in line.cells if cell in cells)
            assert recipe in cells
        for row in rows:
            figure = f"{100 * row.entry.verdicts.robust.rate:.1f}"
            assert figure in cells
    assert {given.get("scope") for given in outline.all("th")} == {"row", "col"}
    assert len([given for given in outline.all("th") if given["scope"] == "row"]) == 12


def test_published_rows_are_hidden_until_asked_for_labelled_and_lead_to_their_source(boards):
    outline = Outline(render_html(boards, small_published()))
    rows = [given for given in outline.all("tr") if given.get("class") == "published"]
    assert [set(given) for given in rows] == [{"data-e", "class", "hidden"}] * 3
    assert [given["data-e"] for given in rows] == ["12", "13", "14"]
    sources = [given["href"] for given in outline.all("a") if given["href"].startswith("https://")]
    assert sources == [f"https://example.org/{row.name}" for row in small_published()["made-up-v1"][0]]
    cells = [cell.strip() for cell in outline.cells]
    assert cells.count("published") == 3
    for attack in ("AutoAttack", "PGD-20", "AutoAttack, eps 0.149"):
        assert attack in cells
    assert "9 rows, the most robust first" in render_html(boards, small_published())  # ours


def test_rows_that_are_not_ranked_say_so_in_words(text):
    assert "<tr data-e=7 class=alarmed>" in text
    assert '<span class="hidden">(fatal alarm, not ranked)</span>' in text
    assert '<span class="hidden">(partial, not ranked)</span>' in text


def test_names_lead_to_the_entries_files(boards, text):
    links = {given["href"] for given in Outline(text).all("a")}
    for track, rows in boards.items():
        assert {f"{track}/{row.entry.name}.json" for row in rows} <= links


def test_nothing_can_be_asked_of_the_network(text):
    outline = Outline(text)
    rules = dict(rule.split(" ", 1) for rule in outline.policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, given, content in outline.raw:
        if given.get("type") != "application/json":  # data, which no browser runs
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in rules[f"{tag}-src"].split()
    assert len(rules["style-src"].split()) + len(rules["script-src"].split()) == len(outline.raw) - 1
    addresses = set(re.findall(r"\bhttps?://[^\s'\"]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not [
        given for _, given in outline.elements if given.keys() & {"src", "style", "onclick", "onload", "srcset"}
    ]


def test_names_cannot_break_out():
    evil = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
    entry = make_entry(evil, make_letters())
    entry = entry.model_copy(
        update={
            "recipe": entry.recipe.model_copy(update={"summary": evil}),
            "track": entry.track.model_copy(update={"about": evil}),
            "model": evil,
        }
    )
    harmless, outline = Outline(render_html({"made-up-v1": rank([make_entry()])})), None
    outline = Outline(render_html({"made-up-v1": rank([entry])}))
    for tag in ("script", "img", "a", "style"):
        assert len(outline.all(tag)) == len(harmless.all(tag))
    assert any(evil in cell for cell in outline.cells)


@pytest.mark.parametrize("n", [400, 1000])
def test_five_hundred_rows_stay_under_a_megabyte_with_a_cell_for_each_image(n):
    page = render_html(make_boards(500, n=n), small_published())
    assert len(page.encode()) < 1_000_000


def test_a_long_test_set_is_shown_in_part():
    sizes = [
        len(render_html({"made-up-v1": rank([make_entry("quant8", make_letters(n=n))])}).encode())
        for n in (400, 4_000, 10_000)
    ]
    assert sizes[1] - sizes[0] < 1_500
    assert abs(sizes[2] - sizes[1]) < 100


def test_the_script_is_all_its_files_in_an_order_and_well_formed(tmp_path):
    folder = Path(page.__file__).parent / "script"
    assert {path.stem for path in folder.iterdir()} == set(page._SCRIPTS)
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 250 for path in folder.iterdir())
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (tmp_path / "page.mjs").write_text(page.script_text(), encoding="utf-8")
    found = subprocess.run([node, "--check", tmp_path / "page.mjs"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_write_html_is_fresh_until_the_board_changes(tmp_path, boards, text):
    place = tmp_path / "index.html"
    assert write_html(boards, tmp_path, check=True) == [place]
    assert not place.exists()
    assert write_html(boards, tmp_path) == [place]
    assert place.read_text(encoding="utf-8") == text
    assert write_html(boards, tmp_path, check=True) == write_html(boards, tmp_path) == []
    assert write_html({"made-up-v1": boards["made-up-v1"][:-1]}, tmp_path, check=True) == [place]


def test_no_entries_is_a_page_too():
    assert "No entries yet." in render_html({})
