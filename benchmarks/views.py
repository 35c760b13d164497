"""What looking costs: the engine's throughput with live views, what is recorded when nobody looks,
and the frames of a page that shows long logs and large trees.

    python benchmarks/views.py [--runs 12] [--skip recording kernel drawn browser]

* events: made and logged, in the thread's own time.
* recording: the engine thread's time for a token of a run, whose tokens are told with what else
  they could have been and how open the choice was, by that of the same token of no run.
* kernel: one ``%%sgl --view all`` cell after the other in a real IPython kernel. Within a run the
  publisher works and rests in turns of half a second (on, off, off, on, ...; what comes while it
  rests is thrown away), so that whatever else the machine does meets both alike. The throughput is
  that of the engine (tokens by time, on the log's clock), so it has in it what the publisher, the
  comm, the kernel's own threads and the receiving process take from the engine. Told is the median
  of the ratios of neighbouring turns with its 95 % confidence interval (of ranks: nothing is
  assumed of how the noise is distributed).
* Then runs with ``--view none`` and ``--view all`` take turns, for the processor time of the
  publisher's thread (serialising for the comm included) and the kernel's sending thread by that of
  the engine's: what they could take from it at most, the opening and the last copy of a view
  included. And how long after its event the first token's message is there. Once the messages only
  leave the kernel, and once they go on to a Chromium on the same cores, which draws all panes
  ("drawn").
* browser: the same code as in a notebook, with a log of 100,000 events, a run of 20,000 tokens and
  a tree of 5,000 nodes.

Needs jupyter_client, playwright and Chromium.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import statistics
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sglnb as sgl
from sglnb.events import Event, EventLog, NodeInserted
from sglnb.runtime.trace import TraceRequest
from sglnb.viz.assets import css, esm
from sglnb.viz.saved import SavedLog

FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]
PANES = "tokens,tree,constraint,branches,schedule"
WORDS = [" the", " cat", " sat", ".\n", " on", " a", " mat", ",", " and", " then", "é", " 魔"]

# -- events ----------------------------------------------------------------------------------


def emit_microseconds(rounds: int = 5, n: int = 20_000) -> float:
    """Of one event, made and logged, when nobody looks; the best of some rounds."""
    log = EventLog()

    def once() -> None:
        log.emit(NodeInserted(node=1, parent=0, ids=[1], pieces=["a"], rid="r"))

    return min(timeit.repeat(once, number=n, repeat=rounds, timer=time.thread_time)) / n * 1e6


def make_microseconds(rounds: int = 5, n: int = 20_000) -> float:
    """Of making that event, which is part of the above."""

    def once() -> None:
        NodeInserted(node=1, parent=0, ids=[1], pieces=["a"], rid="r")

    return min(timeit.repeat(once, number=n, repeat=rounds, timer=time.thread_time)) / n * 1e6


# -- recording -------------------------------------------------------------------------------


def recording(pairs: int, width: int, new: int) -> list[float]:
    """The engine thread's time with a run's name by that without, of each pair."""
    engine = sgl.Engine(kv_tokens=16_000, seed=1)

    def seconds(run: str) -> float:
        engine.cache.flush()
        began = engine.call(time.thread_time)
        params = {"max_new_tokens": new, "ignore_eos": True, "temperature": 1.0}
        requests = [
            engine.submit(f"A story about {i}", {**params, "sampling_seed": i}, run=run)
            for i in range(width)
        ]
        for request in requests:
            request.result()
        return engine.call(time.thread_time) - began

    seconds("r")  # warms up
    ratios = []
    for i in range(pairs):
        took = {run: seconds(run) for run in (("r", "") if i % 2 else ("", "r"))}
        ratios.append(took["r"] / took[""])
    engine.shutdown()
    return ratios


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and a 95 % confidence interval of it from ranks (the binomial distribution's
    normal approximation)."""
    ranked, n = sorted(values), len(values)
    away = 1.96 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - away)), min(n - 1, math.ceil(n / 2 + away) - 1)
    return statistics.median(ranked), ranked[low], ranked[high]


# -- a real kernel ---------------------------------------------------------------------------

SETUP = """
import sglnb as sgl
engine = sgl.Engine(kv_tokens=16_000, seed=1)
sgl.set_default_backend(engine)
get_ipython().run_line_magic("load_ext", "sglnb")

import threading, time, numpy
from sglnb.viz.publisher import Publisher
TURN, spent, turns = 0.5, [0.0], [False]
loop, take = Publisher._loop, Publisher._take
def timed_loop(self):
    began = time.thread_time()
    loop(self)
    spent[0] += time.thread_time() - began
def rests(t):
    return int(t / TURN) % 4 in (1, 2)
def take_turns(self):
    if turns[0] and rests(engine.events.now()):
        self._subscription.drain()
    else:
        take(self)
Publisher._loop, Publisher._take = timed_loop, take_turns
iopub = next(t for t in threading.enumerate() if t.name == "IOPub")
clock = time.pthread_getcpuclockid(iopub.ident)
def now():
    views = spent[0] + time.clock_gettime(clock)
    return engine.events.next_seq, engine.call(time.thread_time), views
def told(before):
    (seq, engine0, views0), (_, engine1, views1) = before, now()
    first = next(e.t for e in engine.events.since(seq) if e.kind == "tokens")
    began = first - engine.events.now() + time.monotonic()
    return (views1 - views0) / (engine1 - engine0), began
def ratios(before):  # of neighbouring turns, the speed with views by that without
    steps = [e for e in engine.events.since(before[0]) if e.kind == "step"]
    ends, made = [e.t for e in steps], numpy.cumsum([len(e.decode) for e in steps])
    full = [e.t for e in steps if len(e.decode) == len(steps[-2].decode)]
    first, last = int(full[0] / TURN) + 1, int(full[-1] / TURN)
    edges = numpy.arange(first + first % 2, last + 1)
    speeds = numpy.diff(numpy.interp(edges * TURN, ends, made)).tolist()
    pairs = zip(edges[::2].tolist(), speeds[::2], speeds[1::2])
    return [a / b if rests((i + 1.5) * TURN) else b / a for i, a, b in pairs]
"""
CELL = """%%sgl --view {view}
s += "A story about "
branches = s.fork({width})
for i, branch in enumerate(branches):
    branch += ["a cat", "a robot", "the sea", "a king"][i % 4] + ": "
    branch += sgl.gen("story", max_tokens={new}, ignore_eos=True, temperature=1.0, seed=i)
branches.join()
"""


class Kernel:
    """A kernel process, whose messages go to ``forward`` as they come."""

    def __init__(self, forward: Callable[[dict], None]):
        from jupyter_client.manager import start_new_kernel

        self._manager, self._client = start_new_kernel(kernel_name="python3")
        self.forward = forward
        self.views, self.messages = set(), 0
        self.first_token: float | None = None
        """When the first message with tokens came, on the clock of time.monotonic."""

    def run(self, code: str) -> dict[str, str]:
        """Run a cell; the values of its expressions ``value`` by name."""
        done = threading.Event()
        expressions = {"value": "value"} if "value =" in code else {}
        rid = self._client.execute(code, user_expressions=expressions, store_history=False)
        while not done.is_set():
            message = self._client.get_iopub_msg(timeout=120)
            kind, content = message["msg_type"], message["content"]
            if kind == "comm_open" and "saved" in content["data"].get("state", {}):
                self.views.add(content["comm_id"])
            if kind in ("comm_open", "comm_msg") and content["comm_id"] in self.views:
                self.messages += 1
                self.forward(content)
                text = content["data"].get("content", {}).get("json", "")
                if self.first_token is None and '"k":"tokens"' in text:
                    self.first_token = time.monotonic()
            mine = message["parent_header"].get("msg_id") == rid
            if mine and kind == "error":
                raise RuntimeError("\n".join(content["traceback"]))
            if mine and kind == "status" and content["execution_state"] == "idle":
                done.set()
        reply: dict = {}
        while reply.get("parent_header", {}).get("msg_id") != rid:  # others may lie before it
            reply = self._client.get_shell_msg(timeout=30)
        reply = reply["content"]
        return {k: v["data"]["text/plain"] for k, v in reply.get("user_expressions", {}).items()}

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


HOST = """<!doctype html><meta charset="utf-8"><style>%s</style><div id="view"></div>
<script type="module">%s
let handlers = {}, state = {}, close = null;
window.feed = (content) => {
  const { data } = content;
  if (data.state && data.method === undefined) {
    close?.();
    handlers = {};
    state = data.state;
    const model = { get: (name) => state[name], on: (name, f) => { handlers[name] = f; },
      off: (name) => { delete handlers[name]; }, send() {}, widget_manager: {} };
    close = render({ model, el: document.getElementById("view") });
  } else if (data.method === "update") {
    Object.assign(state, data.state);
    for (const name in data.state) handlers[`change:${name}`]?.();
  } else if (data.method === "custom") handlers["msg:custom"]?.(data.content);
};
</script>"""


def throughput(runs: int, width: int, new: int, forward) -> dict[str, list[float]]:
    """The ratios of ``runs`` runs; of a few more with and without views, the views' threads' time
    by the engine thread's; of those with views, messages a second, and seconds until the first
    token is there."""
    kernel = Kernel(forward)
    ratios, rates, waits = [], [], []
    shares: dict[str, list[float]] = {"none": [], "all": []}
    try:
        kernel.run(SETUP)
        kernel.run(CELL.format(view="all", width=width, new=20))  # warms up
        for _ in range(runs):
            kernel.run("engine.cache.flush(); before = now(); turns[0] = True")
            kernel.run(CELL.format(view="all", width=width, new=new))
            ratios += json.loads(kernel.run("value = ratios(before)")["value"])
        for view in ("none", "all") * 5:
            kernel.run("engine.cache.flush(); before = now(); turns[0] = False")
            sent, began, kernel.first_token = kernel.messages, time.perf_counter(), None
            kernel.run(CELL.format(view=view, width=width, new=new // 4))
            took = time.perf_counter() - began
            share, first = json.loads(kernel.run("value = list(told(before))")["value"])
            shares[view].append(share)
            if view == "all":
                rates.append((kernel.messages - sent) / took)
                waits.append((kernel.first_token or math.inf) - first)
    finally:
        kernel.close()
    rest = statistics.median(shares["none"])
    share = [each - rest for each in shares["all"]]
    return {"ratios": ratios, "share": share, "rates": rates, "waits": waits}


# -- a browser -------------------------------------------------------------------------------


def dressed(events: list[Event]) -> list[Event]:
    """A simulated log with words, probabilities and alternatives."""
    rng = random.Random(0)
    for event in events:
        if event.kind == "tokens":
            event.pieces = [rng.choice(WORDS) for _ in event.ids]
            event.logprobs = [-rng.expovariate(1) for _ in event.ids]
            event.entropy = [5 * rng.random() for _ in event.ids]
            event.top = [
                [[rng.choice(WORDS), i, -9 * rng.random(), True] for i in range(5)]
                for _ in event.ids
            ]
    return events


def many_events() -> list[Event]:
    """350 requests, about 100,000 events."""
    trace = [
        TraceRequest(
            [*range(1, 10)] * 6 + [10 + i] * (5 + i % 7),
            260,
            arrival=0.01 * i,
            run="r",
            state=f"s{i}",
            name=f"text{i}",
        )
        for i in range(352)
    ]
    return dressed(sgl.simulate(trace, kv_tokens=60_000, max_running=48).events.since())


def one_long_text(n: int = 20_000) -> list[Event]:
    """One request of ``n`` tokens."""
    trace = [TraceRequest([5] * 30, n, run="r", state="s", name="text")]
    return dressed(sgl.simulate(trace, kv_tokens=n + 1000).events.since())


def large_tree(n: int = 5000) -> list[Event]:
    """``n`` nodes, most of them near the newest, and a request that grows."""
    rng = random.Random(2)
    events = sgl.simulate(
        [TraceRequest([5] * 30, 200, run="r", state="s", name="text")]
    ).events.since()
    begin = next(i for i, e in enumerate(events) if e.kind == "request_matched")
    nodes, nodes_made = [10_000], []
    for node in range(10_001, 10_001 + n):
        parent = rng.choice(nodes[-400:]) if rng.random() < 0.8 and len(nodes) > 1 else 0
        pieces = [rng.choice(WORDS) for _ in range(rng.randint(1, 40))]
        ids = list(range(len(pieces)))
        nodes_made.append(NodeInserted(node=node, parent=parent, ids=ids, pieces=pieces, rid="q"))
        nodes.append(node)
    return dressed([*events[:begin], *nodes_made, *events[begin:]])


# Draws every pane as the run view does, and forces the layout that a frame would do.
DRAW = """
window.measure = (saved, tail) => {
  const times = {};
  const timed = (name, f) => {
    const began = performance.now();
    f();
    document.body.getBoundingClientRect().height + document.body.offsetHeight;
    (times[name] ??= []).push(performance.now() - began);
  };
  const store = makeStore();
  store.restore(saved);
  const kept = [];
  while (!store.settle(25)) kept.push(0);
  const model = { get: () => false, on() {}, off() {}, send() {} };
  const hooks = { redraw() {}, select() {}, asker: makeAsker(model, () => {}) };
  const root = document.getElementById("view");
  root.className = "sglnb";
  const made = Object.entries(PANES).map(([key, make]) => [key, make(hooks)]);
  made.forEach(([, pane]) => root.append(pane.root));
  const dark = { path: [], rows: new Set(), rids: new Set(), test: null };
  let after = store.lastSeq;
  for (const wires of tail) {
    timed("fold", () => {
      store.receive({ after, json: JSON.stringify(wires) });
      store.settle();
      after = store.lastSeq;
    });
    const { view } = store;
    const keep = Object.values(view.tree.tips);
    for (const [key, pane] of made) timed(key, () => {
      if (key === "tokens") pane.draw(view, true);
      else pane.draw(view, { live: true, keep });
      if (key === "tree") pane.light([], undefined);
      else if (key === "branches") pane.light(dark.rows, dark.rids);
      else if (key === "tokens") pane.light(null);
      else pane.light(dark);
    });
  }
  return { times, nodes: document.querySelectorAll("#view *").length };
};
"""
WATCH = """<script>
window.slow = [];
new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((e) => e.duration)))
  .observe({ entryTypes: ["longtask"] });
window.frames_ = [];
let last = null;
requestAnimationFrame(function tick(t) {
  if (last !== null) window.frames_.push(t - last);
  last = t;
  requestAnimationFrame(tick);
});
</script>"""


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


def milliseconds(times: list[float]) -> str:
    """Median and 99th percentile."""
    times = sorted(times)
    worst = times[min(len(times) - 1, int(0.99 * len(times)))]
    return f"{statistics.median(times):.1f}, {worst:.1f} ms"


def draw_times(browser, events: list[Event], frames: int = 60) -> dict:
    """Of each pane: milliseconds of each of the last ``frames`` drawings of a growing log."""
    saved = SavedLog(budget=60_000_000)
    cut = len(events) - 4 * frames
    saved.add(events[:cut])
    wires = [saved._encoder(event) for event in events[cut:]]  # the requests' numbers go on
    batches = [wires[i : i + 4] for i in range(0, len(wires), 4)]
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    module = esm().replace("export default { render };", "") + DRAW
    page.set_content(
        f'<!doctype html><meta charset="utf-8"><style>{css()}</style><div id="view"></div>'
        f'<script type="module">{module}</script>'
    )
    page.wait_for_function("window.measure !== undefined")
    out = page.evaluate("([saved, tail]) => window.measure(saved, tail)", [saved.text(), batches])
    page.close()
    return out


def page_times(browser, events: list[Event], folder: str) -> dict[str, list[float]]:
    """Of the self-contained page: milliseconds of the long tasks while it loads, of the frames
    while it scrolls, and of the long tasks while the slider goes back."""
    from pathlib import Path

    from sglnb.viz.page import log_html

    file = Path(folder) / "page.html"
    file.write_text(log_html(events, run="r").replace("<head>", "<head>" + WATCH, 1))
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(file.as_uri())
    page.wait_for_selector(".tok", timeout=120_000)
    page.wait_for_timeout(500)
    out = {"load": page.evaluate("window.slow.splice(0)")}
    page.evaluate("window.frames_.splice(0)")
    page.mouse.move(300, 250)
    for _ in range(100):
        page.mouse.wheel(0, 250)
        page.wait_for_timeout(16)
    out["wheel"] = page.evaluate("window.frames_.splice(0)")
    page.locator(".tok").first.focus()
    for key in ["End", "Home", *["PageDown"] * 40, *["ArrowDown"] * 20]:
        page.keyboard.press(key)
    out["keys"] = page.evaluate("window.frames_.splice(0)")
    out["tokens"] = [page.locator(".tok").count()]
    page.evaluate("window.slow.splice(0)")
    slide = "(e) => { e.value = 0.6 * e.max; e.dispatchEvent(new Event('input')); }"
    page.locator(".replay input").evaluate(slide)
    page.wait_for_timeout(1000)
    out["slider"] = page.evaluate("window.slow.splice(0)")
    page.close()
    return out


# -- the table -------------------------------------------------------------------------------


def row(what: str, value: str, aim: str = "") -> None:
    """One line of the table."""
    print(f"{what:58}{value:>26}   {aim}", flush=True)


def percents(values: list[float]) -> str:
    """The median and its confidence interval."""
    return "{:.1%} ({:.1%} to {:.1%})".format(*interval(values))


def tell_kernel(args, name: str, forward) -> None:
    found = throughput(args.runs, args.width, args.new, forward)
    costs = [1 - ratio for ratio in found["ratios"]]
    row(f"{name}: throughput lost ({len(costs)} pairs of turns)", percents(costs), "< 2 %")
    share = f"{statistics.median(found['share']):.1%}"
    row(f"{name}: the views' threads' time by the engine thread's", share, "< 2 %")
    row(f"{name}: messages a second, at most", f"{max(found['rates']):.1f}", "≤ 20")
    waits = "{:.0f}, {:.0f} ms".format(
        *(1000 * f(found["waits"]) for f in (statistics.median, max))
    )
    row(f"{name}: first token's message, median and worst", waits, "< 200 ms")


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--width", type=int, default=8, help="branches of the program")
    parser.add_argument("--new", type=int, default=400, help="tokens of each branch")
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=["recording", "kernel", "drawn", "browser"]
    )
    args = parser.parse_args()
    row("an event when nobody looks", f"{emit_microseconds():.2f} µs", "≤ 1.5 µs")
    row("  of which making it", f"{make_microseconds():.2f} µs")
    if "recording" not in args.skip:
        found = [ratio - 1 for ratio in recording(4 * args.runs, args.width, args.new // 8)]
        row("recording a run, by the engine thread's time", percents(found))
    if "kernel" not in args.skip:
        tell_kernel(args, "kernel", lambda content: None)
    if "drawn" not in args.skip:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            page.set_content(HOST % (css(), esm()))
            page.wait_for_function("window.feed !== undefined")
            tell_kernel(args, "drawn", lambda content: page.evaluate("(c) => feed(c)", content))
    if "browser" in args.skip:
        return
    logs = {
        "100,000 events": many_events(),
        "20,000 tokens": one_long_text(),
        "5,000 nodes": large_tree(),
    }
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        for name, events in logs.items():
            row(f"{name} ({len(events):,} events)", "median, p99")
            found = draw_times(browser, events)
            for key, times in found["times"].items():
                row(f"  draw {key}", milliseconds(times), "< 50 ms")
            row("  elements in the page", f"{found['nodes']:,}")
            found = page_times(browser, events, folder)
            row("  loading: longest task", f"{max(found['load'], default=0):.0f} ms", "< 200 ms")
            for key in ("wheel", "keys"):
                row(f"  frames by {key}", milliseconds(found[key]), "< 50 ms")
            longest = max(found["slider"], default=0)
            row("  slider back: longest task", f"{longest:.0f} ms", "< 200 ms")
            row("  tokens in the page", f"{found['tokens'][0]:.0f}")


if __name__ == "__main__":
    main()
