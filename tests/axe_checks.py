"""axe-core's rules for accessible pages; the package brings its script, so no network is asked."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SERIOUS = ("serious", "critical")


def findings(page: Page, within: str | None = None) -> list[str]:
    """What axe finds serious or critical in the page, or in the element ``within`` (a CSS
    selector): one line for each element. Moving parts are let to stop first."""
    page.evaluate("Promise.all(document.getAnimations().map((a) => a.finish?.call(a, a.pause())))")
    found = Axe().run(page, context=within, options={"resultTypes": ["violations"]}).response
    return [
        f"{rule['id']}: {node['html'][:160]} ({node.get('failureSummary', '')[:240]})"
        for rule in found["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]
