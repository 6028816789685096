"""The page: sound HTML by a strict parser, whole in itself, readable in both modes, and nothing in it is trusted."""

import re
from xml.etree.ElementTree import Element

import html5lib  # type: ignore[import-untyped]  # has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.agents.quality import Analysis, QualityReport, summarise
from tapeline.agents.quality.charts import nice_steps
from tapeline.agents.quality.markup import element, join
from tapeline.agents.quality.page import page
from tapeline.agents.quality.style import STYLE
from tests.agents.quality.markets import DAY, messy

pytestmark = pytest.mark.slow

EVIL = """x:<script>alert(1)</script>&"'</title><img src=http://evil/ onerror=x>"""
XHTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"


def messy_report(instrument: str = "venue:X", source: str = "a test") -> QualityReport:
    found = Analysis(DAY)
    found.add(messy(5, 3000))
    return summarise(found, instrument, source, rejected={source: 3}, damage=source)


def parsed(text: str) -> Element:
    """The document, by a parser that raises at the first thing that HTML does not allow."""
    document: Element = html5lib.HTMLParser(strict=True).parse(text)
    return document


def text_of(node: Element) -> str:
    return "".join(node.itertext())


@pytest.fixture(scope="module")
def document() -> Element:
    return parsed(page(messy_report()))


def test_real_pages_are_sound(usdm: QualityReport) -> None:
    document = parsed(page(usdm))
    assert text_of(document.findall(f".//{XHTML}h1")[0]) == "binance-usdm:BTCUSDT"
    titles = {text_of(one) for one in document.iter(f"{SVG}text") if one.get("class") == "title"}
    assert {"Trades a second", "Quotes a second", "Book levels a second", "Price, lowest to highest"} <= titles


def test_a_day_without_ticks_has_a_page() -> None:
    document = parsed(page(summarise(Analysis(DAY), "venue:X", "a test")))
    assert "There are no ticks." in text_of(document)
    assert not list(document.iter(f"{SVG}svg"))


def test_nothing_that_is_not_ours_becomes_markup() -> None:
    document = parsed(page(messy_report(EVIL, EVIL)))
    assert {one.tag.rpartition("}")[2] for one in document.iter()} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "footer", "div", "span", "p"),
        *("h1", "h2", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
        *("svg", "g", "text", "line", "rect", "path"),
    }
    assert text_of(document.findall(f".//{XHTML}h1")[0]) == EVIL
    assert EVIL in [text_of(one) for one in document.iter(f"{XHTML}dd")]


def test_nothing_comes_from_outside(document: Element) -> None:
    for one in document.iter():
        assert not {"src", "href", "srcset", "action", "style"} & one.attrib.keys()
        assert not [name for name in one.attrib if name.startswith("on")]
    (style,) = document.iter(f"{XHTML}style")
    assert not re.search(r"url\(|@import|@font-face|http", text_of(style))
    policies = [one.get("content") or "" for one in document.iter(f"{XHTML}meta") if one.get("http-equiv")]
    assert [one.startswith("default-src 'none'; style-src 'unsafe-inline'") for one in policies] == [True]


def test_who_cannot_see_it_can_read_it(document: Element) -> None:
    (html,) = [document] if document.tag == f"{XHTML}html" else document.iter(f"{XHTML}html")
    assert html.get("lang") == "en"
    for table in document.iter(f"{XHTML}table"):
        assert text_of(table[0])
        assert table[0].tag == f"{XHTML}caption"
        assert {one.get("scope") for one in table.iter(f"{XHTML}th")} <= {"col", "row"}
    for one in document.iter(f"{XHTML}div"):
        if one.get("class") in ("table", "table long", "drawing"):
            assert (one.get("role"), one.get("tabindex")) == ("region", "0")
            assert one.get("aria-label")
    (svg,) = document.iter(f"{SVG}svg")
    assert svg.get("role") == "img"
    assert svg.get("aria-label")
    report = messy_report()
    assert report.timeline is not None
    (bins,) = (one for one in document.iter(f"{XHTML}details"))
    assert len(list(bins.iter(f"{XHTML}tr"))) == len(report.timeline.trades) + 1


def test_drawings_hold_numbers_only(document: Element) -> None:
    names = ("x", "y", "x1", "y1", "x2", "y2", "width", "height")
    numbers = [one.get(name) for one in document.iter() for name in names if one.tag.startswith(SVG)]
    assert all(re.fullmatch(r"\d+(\.\d)?", one) for one in numbers if one is not None)
    for path in document.iter(f"{SVG}path"):
        assert re.fullmatch(r"([MVHhlz]-?[\d. -]*)*", path.get("d") or "x")


@given(st.text("<>&\"'ab\n é", max_size=20))
def test_any_text_is_escaped(text: str) -> None:
    made = element("td", text, title=text)
    assert not re.search(r"[<>\"']", join(text))
    assert made.count("<") == 2


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e12), st.integers(2, 8))
def test_steps_of_an_axis_are_few_and_inside(low: float, size: float, most: int) -> None:
    steps = nice_steps(low, low + size, most)
    assert 1 <= len(steps) <= most
    assert steps == sorted(steps)
    rounding = 1e-9 * max(abs(low), size)
    assert all(low - rounding <= one <= low + size + rounding for one in steps)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper", "least"),
    [
        ("ink", "paper", 7),
        ("soft", "paper", 4.5),
        ("ink", "sheet", 7),
        ("ok", "ok-paper", 4.5),
        ("alert", "alert-paper", 4.5),
        ("data", "paper", 3),
        ("alert", "paper", 3),
    ],
)
def test_contrast_is_enough(mode: int, ink: str, paper: str, least: float) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[mode]))
    light, dark = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least
