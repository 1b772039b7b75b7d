"""The page in a real browser: sorting, filters, plot, panels, the address, and no request that leaves it."""

import os
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from many import make_boards, small_boards, small_published

from bench.render.html.page import render_html

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'bench[browser]'")
pytestmark = pytest.mark.browser
PANEL = "#panel[open]"
PLOT = "section[data-track=made-up-v1] svg[role=application]"


@pytest.fixture(scope="module")
def browser():
    """Playwright's own Chromium, or the system's."""
    with playwright.sync_playwright() as driver:
        found = [None, *filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))]
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        for path in found:
            try:
                browser = driver.chromium.launch(executable_path=path, args=sandbox)
            except playwright.Error:
                continue
            yield browser
            browser.close()
            return
        pytest.skip("Chromium is not installed: playwright install chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small board, the same with published rows, a big one and a long one."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "small.html").write_text(render_html(small_boards()), encoding="utf-8")
    (folder / "beside.html").write_text(render_html(small_boards(), small_published()), encoding="utf-8")
    (folder / "big.html").write_text(render_html(make_boards(500)), encoding="utf-8")
    (folder / "long.html").write_text(render_html(make_boards(300, tracks=1)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(folder):
    """The folder, served from this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def visit(browser, site):
    """Open a page; at the end, nothing was complained of, and nothing but the page was asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))

    def go(name="small.html", state=""):
        page.goto("about:blank")
        page.goto(f"{site}/{name}{'#' if state else ''}{state}")
        return page

    yield go
    assert complaints == []
    asked = {re.sub("#.*", "", url) for url in requests if not url.startswith("data:")}
    assert asked <= {"about:blank", *(f"{site}/{name}.html" for name in ("small", "beside", "big", "long", "huge"))}
    context.close()


def names(page, track="made-up-v1"):
    return page.locator(f"section[data-track={track}] tbody tr:not([hidden]) th a").all_inner_texts()


def sort_by(page, key):
    page.locator(f"section[data-track=made-up-v1] th[data-key={key}] button").click()


def state(page, expected):
    page.wait_for_function("expected => location.hash === expected", arg=expected)


def test_a_click_on_a_heading_sorts_and_a_third_one_restores(visit):
    page = visit()
    before = names(page)
    sort_by(page, "bops")
    assert names(page)[0] == "quant2-advft"
    assert page.locator("section[data-track=made-up-v1] th[data-key=bops]").get_attribute("aria-sort") == "ascending"
    assert "sorted by BOPs G, ascending" in page.locator("section[data-track=made-up-v1] caption").inner_text()
    sort_by(page, "bops")
    assert names(page)[0] in ("none", "quant8-dynamic")
    state(page, "#sort=-bops")
    sort_by(page, "bops")
    assert names(page) == before
    sort_by(page, "robust")
    figures = page.locator("section[data-track=made-up-v1] td.r").all_inner_texts()
    assert [float(text) for text in figures] == sorted(map(float, figures), reverse=True)


def test_what_is_unknown_stays_last_in_both_directions(visit):
    page = visit()
    for _ in range(2):
        sort_by(page, "latency")
        cells = page.locator("section[data-track=made-up-v1] tbody tr").evaluate_all(
            "rows => rows.map(row => row.cells[10].textContent)"
        )
        assert cells[-2:] == ["sim.", "sim."]
        assert "sim." not in cells[:-2]


def test_every_column_can_be_sorted_by(visit):
    page = visit()
    keys = page.locator("section[data-track=made-up-v1] thead th").evaluate_all("all => all.map(th => th.dataset.key)")
    assert len(keys) > 10
    for key in keys:
        sort_by(page, key)
        assert len(names(page)) == 9


def test_filters_and_search(visit):
    page = visit()
    page.get_by_label("Bits").select_option("W4A4")
    assert names(page) == ["quant4-advft"]
    assert names(page, "other-v1") == []
    page.get_by_label("Bits").select_option("")
    page.get_by_label("Status").select_option("partial")
    assert names(page) == ["quant2-advft"]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Base model").select_option("bench:conv8")
    assert (names(page), len(names(page, "other-v1"))) == ([], 3)
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Compression").select_option("structured")
    assert names(page) == ["prune50-advft", "prune50-quant8-advft"]
    page.locator("select[name=track]").select_option("other-v1")
    assert page.locator("section[data-track=made-up-v1]").is_hidden()
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Search").fill("twin-disagrees")
    assert names(page) == ["quant8-dynamic"]
    assert "1 of 9 rows" in page.locator("section[data-track=made-up-v1] caption").inner_text()


def test_the_front_follows_the_chosen_cost(visit):
    page = visit()
    page.get_by_label("Pareto front only").check()
    by_bops = names(page)
    assert by_bops == ["quant8-advft", "prune50-quant8-advft"]
    page.get_by_label("Cost").select_option("macs")
    assert names(page) == ["quant8-advft", "prune50-advft"]
    marks = page.locator("section[data-track=made-up-v1] tbody tr:not([hidden]) td.m").all_inner_texts()
    assert marks == ["◆", "◆"]
    assert "robustness or MACs" in page.locator("section[data-track=made-up-v1] .notes").inner_text()
    state(page, "#pareto=1&cost=macs")


def test_the_address_brings_everything_back(visit):
    page = visit(state="kind=quantised&sort=-clean&cost=bytes&q=advft")
    once = names(page)
    assert once == ["quant8-advft", "prune50-quant8-advft", "quant4-advft", "quant2-advft"]
    page.reload()
    assert names(page) == once
    assert page.get_by_label("Compression").input_value() == "quantised"
    assert page.get_by_label("Search").input_value() == "advft"
    assert page.get_by_label("Cost").input_value() == "bytes"


def test_strange_addresses_do_no_harm(visit):
    page = visit(state="track=nowhere&cost=gold&sort=-x&entry=a/b&kind=%3Cscript%3E&__proto__=1")
    assert page.locator("section:visible").count() == 2
    assert page.locator(PANEL).count() == 0


def test_a_click_on_a_point_opens_its_entry(visit):
    page = visit()
    plot = page.locator(PLOT)
    plot.scroll_into_view_if_needed()
    frame = plot.bounding_box()
    place = re.match(r"M([\d.]+) ([\d.]+)", page.locator(f"{PLOT} path.front").get_attribute("d"))
    x, y = float(place[1]), float(place[2]) + 6.5
    page.mouse.move(frame["x"] + x, frame["y"] + y)
    tip = page.locator("section[data-track=made-up-v1] .tip")
    for part in ("prune50-quant8-advft", "50.7 % robust, rank 4", "45.9 to 55.6", "57.8 M BOPs"):
        assert part in tip.inner_text()
    page.mouse.click(frame["x"] + x, frame["y"] + y)
    panel = page.locator(PANEL)
    assert panel.get_by_role("heading").first.inner_text() == "prune50-quant8-advft"
    assert "50.7 %" in panel.inner_text()
    assert "bench evaluate --recipe prune50-quant8-advft --track made-up-v1" in panel.inner_text()


def test_the_plot_works_from_the_keyboard(visit):
    page = visit()
    page.locator(PLOT).focus()
    page.keyboard.press("Home")
    assert "quant2-advft" in page.locator("#status").inner_text()
    page.keyboard.press("ArrowRight")
    told = page.locator("#status").inner_text()
    page.keyboard.press("Enter")
    assert told.split(";")[0] == page.locator(f"{PANEL} h2").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(PANEL).count() == 0
    assert page.evaluate("document.activeElement.getAttribute('role')") == "application"


def test_a_panel_tells_all_and_gives_the_focus_back(visit):
    page = visit()
    link = page.get_by_role("link", name="quant8-dynamic")
    link.focus()
    page.keyboard.press("Enter")
    panel = page.locator(PANEL)
    text = panel.inner_text()
    for part in (
        "324 of 400 images",
        "76.9 to 84.5",
        "twin-disagrees",
        "97.25% of 400 clean images",
        "×0.062",
        "weight_bits 8",
    ):
        assert part in text
    for part in (
        "fatal alarm: not ranked",
        "commit d63e364aa0",
        "torch 2.15.0",
        "AMD EPYC 9354",
        "same class on 100.0 %",
    ):
        assert part in text
    assert panel.locator(".bar span").count() == 5
    assert panel.locator(".legend li").count() == 6
    state(page, "#entry=made-up-v1%2Fbench-digits-cnn--quant8-dynamic")
    page.reload()
    assert page.locator(PANEL).count() == 1
    page.keyboard.press("Escape")
    state(page, "")
    link.click()
    page.get_by_role("button", name="Close").click()
    assert page.evaluate("document.activeElement.textContent") == "quant8-dynamic"
    page.go_back()
    assert page.locator(PANEL).count() == 1


def test_the_theme_is_kept(visit):
    page = visit()
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) != light
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: light"
    assert page.evaluate(background) == light
    page.reload()
    assert page.evaluate(background) == light


@pytest.mark.parametrize("width", [400, 1280])
def test_the_window_never_scrolls_sideways(visit, width):
    page = visit("big.html")
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function(
        "width => document.querySelector('svg[role=application]').viewBox.baseVal.width < width", arg=width
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_five_hundred_rows_answer_at_once(visit):
    """Processor time of the page's thread, so that a busy machine fails nobody."""
    page = visit("big.html")
    chromium = page.context.new_cdp_session(page)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        found = {metric["name"]: metric["value"] for metric in chromium.send("Performance.getMetrics")["metrics"]}
        return found["TaskDuration"]

    assert spent() < 3
    for act in ("th[data-key=bops] button", "th[data-key=recipe] button", "input[name=pareto]", "input[name=pareto]"):
        before = spent()
        page.evaluate("act => { document.querySelector(act).click(); document.body.getBoundingClientRect(); }", act)
        assert spent() - before < 0.5, act
    assert page.locator("tbody tr:not([hidden])").count() == 500


def test_a_long_board_shows_its_best_rows_and_more_on_demand(visit):
    page = visit("long.html")
    assert len(names(page, "made-up-0-v1")) == 250
    page.get_by_role("button", name="Show more: 250 of 300 rows are here").click()
    assert len(names(page, "made-up-0-v1")) == 300
    assert page.get_by_role("button", name="Show more").count() == 0


def test_the_tables_are_there_without_javascript(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/small.html")
    assert page.locator("tbody tr").count() == 12
    assert page.locator("form").is_hidden()
    assert page.locator("noscript").inner_text().startswith("Sorting, filters, plots")
    context.close()


def test_published_rows_stand_among_ours_when_asked_for(visit):
    page = visit("beside.html")
    ours = names(page)
    assert len(ours) == 9
    headings = page.locator("section[data-track=made-up-v1] th[data-key=asked]")
    assert headings.is_hidden()
    page.get_by_label("Published rows").check()
    state(page, "#published=1")
    shown = names(page)
    assert [name for name in shown if name in ours] == ours
    assert shown[0] == "Best2024"
    assert shown.index("quant8") < shown.index("middling-sparse90") < shown.index("prune50-advft")
    first = page.locator("section[data-track=made-up-v1] tbody tr:not([hidden])").first
    for text in ("published", "AutoAttack", "70.1", "93.1"):
        assert text in first.inner_text()
    grey, ink = (
        page.locator(f"section[data-track=made-up-v1] tr{which} td.r").first.evaluate(
            "it => getComputedStyle(it).color"
        )
        for which in (".published", ":not(.published):not(.alarmed):not(.partial)")
    )
    assert grey != ink
    assert headings.is_visible()
    notes = page.locator("section[data-track=made-up-v1] .notes").inner_text()
    assert "not measured here: no rank, never ◆" in notes
    page.get_by_label("Pareto front only").check()
    assert names(page) == ["quant8-advft", "prune50-quant8-advft"]
    page.reload()
    assert page.get_by_label("Published rows").is_checked()
    page.get_by_role("button", name="Clear").click()
    assert names(page) == ours


def test_published_rows_are_on_the_plot_and_have_a_panel(visit):
    page = visit("beside.html", state="published=1")
    place = re.match(r"M([\d.]+) ([\d.]+)", page.locator(f"{PLOT} path.beside").get_attribute("d"))
    frame = page.locator(PLOT).bounding_box()
    page.mouse.click(frame["x"] + float(place[1]) + 4, frame["y"] + float(place[2]))
    text = page.locator(PANEL).inner_text()
    for part in ("weak", "published: not measured here, not ranked", "Linf 0.149", "W4", "read off a plot"):
        assert part in text
    assert page.get_by_role("link", name="The source").get_attribute("href") == "https://example.org/digits-weak-quant4"
    page.keyboard.press("Escape")
    page.locator(PLOT).focus()
    page.keyboard.press("End")
    assert "published" in page.locator("#status").inner_text()


def test_the_status_filter(visit):
    page = visit("beside.html")
    status = page.get_by_label("Status")
    expected = {
        "alarmed": 1,
        "measured": 10,
        "partial": 1,
        "published": 3,
        "ranked": 9,
        "self-reported": 1,
        "verified": 1,
    }
    assert status.locator("option").all_inner_texts() == ["Any", *expected]
    for value, count in expected.items():
        status.select_option(value)
        assert page.locator("tbody tr:not([hidden])").count() == count, value
    status.select_option("self-reported")
    row = page.locator("section[data-track=other-v1] tbody tr:not([hidden])")
    assert row.locator("td").first.inner_text() == "–"
    assert "†" in row.inner_text()
    assert page.get_by_text("No row answers all of these filters.").filter(visible=True).count() == 1
    row.locator("a").click()
    assert "Self-reported: sent in with its evidence" in page.locator(f"{PANEL} .badge").inner_text()


def test_everything_works_from_the_keyboard(visit):
    page = visit("beside.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the tables"
    page.get_by_label("Published rows").focus()
    page.keyboard.press("Space")
    assert names(page)[0] == "Best2024"
    page.locator("section[data-track=made-up-v1] th[data-key=clean] button").focus()
    page.keyboard.press("Enter")
    state(page, "#published=1&sort=-clean")
    page.get_by_role("link", name="quant8-advft", exact=True).focus()
    page.keyboard.press("Enter")
    assert page.locator(PANEL).count() == 1
    for _ in range(6):  # the focus never leaves the panel for the page behind it
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")


def test_the_picture_of_the_letters_has_a_cell_for_each_image(visit):
    page = visit()
    letters = small_boards()["made-up-v1"][0].entry.verdicts.letters
    page.locator("tbody th a").first.click()
    canvas = page.locator(f"{PANEL} canvas.letters")
    canvas.scroll_into_view_if_needed()
    assert "One cell for each of 400 images" in canvas.get_attribute("aria-label")
    frame = canvas.bounding_box()
    for i in (0, 57, 399):
        x, y = (i % 50 + 0.5) / 50 * frame["width"], (i // 50 + 0.5) / 8 * frame["height"]
        page.mouse.move(frame["x"] + x, frame["y"] + y)
        assert page.locator(f"{PANEL} .told").inner_text().startswith(f"image {i}: {letters[i]} ")
    colour = "(it, at) => [...it.getContext('2d').getImageData(...at, 1, 1).data].slice(0, 3)"
    robust = letters.index(".")
    assert canvas.evaluate(colour, [robust % 50 * 22 + 5, robust // 50 * 22 + 5]) == [0x5F, 0xB3, 0x6A]


@pytest.mark.slow
def test_ten_thousand_rows_stay_responsive(visit, folder):
    (folder / "huge.html").write_text(render_html(make_boards(10_000)), encoding="utf-8")
    page = visit("huge.html")
    chromium = page.context.new_cdp_session(page)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        found = {metric["name"]: metric["value"] for metric in chromium.send("Performance.getMetrics")["metrics"]}
        return found["TaskDuration"]

    for act in ("th[data-key=bops] button", "input[name=pareto]", "tbody th a"):
        before = spent()
        page.evaluate("act => { document.querySelector(act).click(); document.body.getBoundingClientRect(); }", act)
        assert spent() - before < 1.5, act
