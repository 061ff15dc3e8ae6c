"""The site from the disk, without a network: pages open, links lead somewhere, pictures have words, sliders move.

make test-browser
"""

from urllib.parse import unquote, urldefrag

import lab
import pages
import pytest

pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=str(lab.missing()))

# One that cannot be loaded fails as a request.
LOADED = """() => Promise.allSettled([...document.images].map(picture => { picture.loading = 'eager'; return picture.decode(); }))"""
FACTS = """() => ({
    links: [...document.querySelectorAll('a[href]')].map(link => link.href),
    ids: [...document.querySelectorAll('[id]')].map(element => element.id),
    unnamed: [...document.images].filter(picture => !picture.alt).map(picture => picture.src),
})"""


@pytest.fixture(scope="module")
def site():
    assert pages.main() == 0
    return pages.SITE


@pytest.fixture
def page(chromium):
    """`wrong` fills with errors of the console and with addresses that are not on this disk."""
    page = chromium.new_context(offline=True).new_page()
    page.wrong = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.wrong.append(message.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda sent: sent.url.startswith(("file:", "data:")) or page.wrong.append(sent.url))
    page.on("requestfailed", lambda sent: page.wrong.append(sent.url))
    yield page
    page.context.close()


def test_every_page_opens_and_every_link_leads_somewhere(site, page):
    found, seen = [], {}
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        page.evaluate(LOADED)
        seen[path.as_uri()] = page.evaluate(FACTS)
        found += [f"{path.name}: {wrong}" for wrong in page.wrong]
        page.wrong.clear()
    for address, facts in seen.items():
        found += [f"{address}: {picture} has no alt text" for picture in facts["unnamed"]]
        for link in (link for link in facts["links"] if link.startswith("file:")):
            target, fragment = urldefrag(link)
            if target not in seen or (fragment and unquote(fragment) not in seen[target]["ids"]):
                found.append(f"{address}: nothing is at {link}")
    assert not found
    assert len(seen) > len(lab.COURSE)


@pytest.mark.parametrize("path", lab.COURSE, ids=lambda path: path.stem)
def test_every_slider_moves_its_picture_and_back(site, page, path):
    page.goto((site / "notebooks" / f"{path.stem}.html").as_uri())
    page.evaluate(LOADED)
    page.add_style_tag(content=".back-to-top { display: none !important }")  # it comes and goes, over the pictures
    controls = page.locator("[data-moves]").all()
    assert bool(controls) == ("widgets.frames(" in path.read_text(encoding="utf-8"))
    for control in controls:
        # The first that follows is the value in words.
        picture = page.locator(f"[data-follows='{control.get_attribute('data-moves')}']:visible").last
        before = picture.screenshot()
        there, back = moves(control)
        there()
        moved = picture.screenshot() != before
        back()
        assert (moved, picture.screenshot() == before) == (True, True), control.get_attribute("data-moves")
    assert not page.wrong


def moves(control):
    """What takes a control to another place, and back."""
    if control.get_attribute("type") == "range":
        there, back = ("ArrowRight", "ArrowLeft") if control.input_value() == "0" else ("ArrowLeft", "ArrowRight")
        return lambda: control.press(there), lambda: control.press(back)
    buttons = control.get_by_role("radio").all()
    at = next(place for place, button in enumerate(buttons) if button.is_checked())
    return buttons[at - 1].check, buttons[at].check


def test_the_search_finds_a_word_of_the_prose_and_one_of_the_package(site, page):
    for word, target in (("separability", "04_separability_theory"), ("apgd", "srat_utils.attacks")):
        page.goto(f"{(site / 'search.html').as_uri()}?q={word}")
        page.locator(f"#search-results a[href*='{target}']").first.wait_for(timeout=20_000)
    assert not page.wrong
