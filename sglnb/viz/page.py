"""A view as one self-contained interactive page that needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable

from sglnb.events import Event

from .assets import UNPACK, css, esm, pack
from .runlog import run_events
from .saved import SavedLog
from .text import visible

PAGE_BUDGET = 20_000_000
"""Most bytes of log in a page; a longer log is thinned as in the live view."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
</head>
<body class="sglnb-page">
<main id="view"></main>
<script type="application/gzip" id="log">{log}</script>
<script type="module">
{unpack}
const el = document.getElementById("view");
if (!globalThis.DecompressionStream) el.textContent = "This page needs a browser of 2023 or later.";
const style = document.createElement("style");
style.textContent = await unpack("{css}");
document.head.append(style);
const state = {{ saved: await unpack(document.getElementById("log").textContent),
  title: {js_title}, panes: {panes}, run: "", foreground: false }};
const model = {{ get: (name) => state[name], on() {{}}, off() {{}}, send() {{}} }};
(await load("{module}")).render({{ model, el }});
</script>
</body>
</html>
"""


def _in_script(json_text: str) -> str:
    """JSON that cannot end the script element it stands in. It is ASCII already."""
    return json_text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page(module: str, saved: str, title: str, panes: str = "auto") -> str:
    """The page of the view ``module`` (see :mod:`.assets`) that starts from the JSON ``saved``."""
    return _PAGE.format(
        title=html.escape(visible(title)),
        css=pack(css()),
        log=pack(saved),
        unpack=UNPACK,
        module=pack(module),
        js_title=_in_script(json.dumps(title)),
        panes=_in_script(json.dumps(panes)),
    )


def to_html(events: Iterable[Event], run: str, title: str = "", *, panes: str = "auto") -> str:
    """One file with the interactive view of ``run``: same code, same slider, no network.

    Args:
        events: the log, or any part of it that holds the run.
        run: the run's id.
        title: the page's title; default: the run's own.
        panes: as in :class:`.RunView`.
    """
    return log_html(run_events(events, run), title, run=run, panes=panes)


def log_html(
    events: Iterable[Event], title: str = "", *, run: str = "", panes: str = "auto"
) -> str:
    """The interactive view of all ``events``, of whatever runs; ``panes`` as in
    :class:`.RunView`."""
    log = SavedLog(budget=PAGE_BUDGET)
    log.add(events)
    title = title or log.header["title"] or run
    return page(esm(), log.text(), title, panes)


def iframe_html(
    events: Iterable[Event], run: str, title: str = "", *, panes: str = "auto", height: int = 520
) -> str:
    """The page inside a sandboxed ``<iframe srcdoc>``: a cell output that stays interactive
    without a kernel (in trusted notebooks and in HTML exports). ``height`` is in pixels."""
    text = html.escape(to_html(events, run, title, panes=panes), quote=True)
    name = html.escape(visible(title or run))
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{text}" title="{name}" '
        f'style="width: 100%; height: {int(height)}px; border: 0; resize: vertical"></iframe>'
    )
