"""What a page looks like, for tools and for people: axe-core's findings, and screenshots at every width."""

import os
import re
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS_PX = (360, 768, 1440)
_HEIGHT_PX = 900


def assert_usable(page: Page) -> None:
    """Nobody is shut out (axe-core's rules), and nothing is wider than the smallest phone."""
    results = Axe().run(page)
    assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"
    before = page.viewport_size
    page.set_viewport_size({"width": WIDTHS_PX[0], "height": _HEIGHT_PX})
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0, f"{page.url} is {too_wide} px wider than a phone"
    if before is not None:
        page.set_viewport_size(before)


def take_pictures(page: Page, name: str) -> None:
    """At three widths, light and dark, into the directory that SCREENSHOTS names; nothing without it."""
    directory = os.environ.get("SCREENSHOTS")  # noqa: TID251 - the run's, not the gateway's
    if not directory:
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS_PX:
            page.set_viewport_size({"width": width, "height": _HEIGHT_PX})
            file = f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{width}-{scheme}.png"
            page.screenshot(path=Path(directory) / file, full_page=True)
    page.emulate_media(color_scheme="light")
