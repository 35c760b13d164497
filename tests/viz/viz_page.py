"""Show views in a page, with a stand-in for the kernel."""

from __future__ import annotations

import json

from viz_logs import load, run_of

from sglnb.events import EventLog
from sglnb.viz import to_html
from sglnb.viz.publisher import Publisher
from sglnb.viz.runlog import RunFilter, base_snapshot
from sglnb.viz.wire import Encoder

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
    """A run's events in wire form, one each, so that a test can deal them out; and the last copy
    that a publisher saves of the log."""
    log, saves = EventLog(), []
    for event in events:
        log.emit(event)
    publisher = Publisher(log, run, lambda message: None, saves.append)
    publisher.finish()
    encode = Encoder()
    own = next(i for i, event in enumerate(events) if RunFilter(run).is_own(event))
    told = [base_snapshot(events[:own]), *filter(RunFilter(run), events[own:])]
    return [encode(event) for event in told], saves[-1]


def feed(page, wires, after):
    message = {"kind": "events", "after": after, "json": json.dumps(wires)}
    page.evaluate("(m) => window.feed(m)", message)
    settle(page)
