"""A page of the browser that must stay without errors."""

from __future__ import annotations

import pytest


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda m: page.troubles.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (page.troubles.append("dialog"), dialog.dismiss()))
    yield page
    assert page.troubles == []
    page.close()
