"""Show views in a page, with a stand-in for the kernel."""

from __future__ import annotations

import json

from viz_logs import load, run_of

from sglnb.events import EventLog
from sglnb.viz import to_html
from sglnb.viz.publisher import Publisher

HOST = """<!doctype html><meta charset="utf-8"><style>%s</style><div id="view"></div>
<script type="module">%s
const handlers = {};
const state = { saved: "", title: "a run", panes: "auto", run: "x", foreground: true };
window.sent = [];
window.leaked = [];
document.addEventListener("keydown", (event) => window.leaked.push(event.key));
const model = {
  get: (name) => state[name],
  on: (name, f) => { handlers[name] = f; },
  off: (name) => { delete handlers[name]; },
  send: (message) => window.sent.push(message),
  widget_manager: { kernel: { interrupt: () => window.sent.push("interrupt") } },
};
window.feed = (message) => handlers["msg:custom"](message);
window.save = (text) => { state.saved = text; handlers["change:saved"](); };
window.set = (name, value) => { state[name] = value; };
window.close_ = render({ model, el: document.getElementById("view") });
</script>"""


def show(page, name):
    events = load(name)
    page.set_content(to_html(events, run_of(events)))
    page.wait_for_selector(".tok")


def settle(page):
    """Let the next frame draw."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def published(events, run):
    """What a publisher sends for a log: its messages and its last saved copy."""
    log, messages, saves = EventLog(), [], []
    for event in events:
        log.emit(event)
    publisher = Publisher(log, run, messages.append, saves.append)
    publisher.finish()
    wires = [wire for message in messages for wire in json.loads(message["json"])]
    return wires, saves[-1]


def feed(page, wires, after):
    message = {"kind": "events", "after": after, "json": json.dumps(wires)}
    page.evaluate("(m) => window.feed(m)", message)
    settle(page)
