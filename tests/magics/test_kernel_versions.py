"""Live views on the ipykernel versions that differ in how a busy kernel hears and is heard:
6.31 (no subshells), 7.1 (subshells), and the newest (a comm's messages follow its last sender)."""

from __future__ import annotations

import json
import time

import pytest
from kernel_client import Kernel, customs
from older_kernels import VERSIONS, environment

LONG = """%%sgl -o r --temperature 0.8 --seed 1 --max-tokens 1500
s += user("Tell me a long story.")
s += assistant(gen("story", ignore_eos=True))
s["story"]
"""


@pytest.fixture(scope="module", params=[*VERSIONS, "newest"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def kernel(version):
    kernel = Kernel(environment(version))
    told = kernel.run("import ipykernel, sglnb\n%load_ext sglnb\nprint(ipykernel.__version__)")
    assert told.status == "ok", told.text()
    if version != "newest":
        assert told.text().startswith(f"{version}.")
    yield kernel
    assert kernel.run("sglnb.default_engine().check()").status == "ok"
    kernel.close()


def batches(messages):
    return [content for _, content in customs(messages) if content["kind"] == "events"]


def count(messages):
    """How many events have come."""
    return sum(len(json.loads(batch["json"])) for batch in batches(messages))


def begin(kernel):
    """Run the long cell until its view has grown; the cell's id, its view's, and the messages."""
    cell = kernel.start(LONG)
    seen = kernel.watch(cell, lambda m: len(batches(m)) >= 6 and count(m) > 20)
    return cell, customs(seen)[0][0], seen


def test_a_view_grows_while_its_cell_is_busy_and_an_interrupt_stops_it(kernel):
    cell, _, _ = begin(kernel)  # it fails if the cell ends before the view has grown
    kernel.manager.interrupt_kernel()
    reply = kernel.finish(cell)
    assert reply.status == "error"
    assert kernel.run("r.status, len(r.text) > 20").text() == "('stopped', True)"


def test_a_busy_kernel_hears_stop_where_it_can(kernel, version):
    subshell = kernel.open_subshell()
    assert (subshell is None) == (version == "6.31")
    cell, view, _ = begin(kernel)
    kernel.tell(view, {"kind": "cancel"}, subshell)
    if subshell is None:  # it waits for the cell, whose Stop is an interrupt
        kernel.manager.interrupt_kernel()
    begun = time.monotonic()
    kernel.finish(cell)
    assert time.monotonic() - begun < 5
    assert kernel.run("r.status, r.done").text() == "('stopped', True)"


def test_a_busy_kernel_answers_a_question_where_it_can(kernel):
    subshell = kernel.open_subshell()
    cell, view, _ = begin(kernel)
    question = {"kind": "ask", "id": 7, "what": "why_miss", "args": {"text": "Tell me"}}
    kernel.tell(view, question, subshell)

    def answers(messages):
        return [c for _, c in customs(messages) if c["kind"] == "answer"]

    if subshell is not None:  # the answer is a message of the cell that made the view
        (answer,) = answers(kernel.watch(cell, answers))
        assert (answer["id"], answer["ok"]) == (7, True)
    kernel.manager.interrupt_kernel()
    kernel.finish(cell)
    if subshell is None:
        deadline = time.monotonic() + 10
        late = []
        while not answers(late):
            assert time.monotonic() < deadline
            late.append(kernel.client.get_iopub_msg(timeout=10))


def test_a_run_in_the_background_is_stopped_by_its_view(kernel):
    kernel.start(LONG.replace("%%sgl", "%%sgl --bg"))
    seen = []
    while not batches(seen):
        seen.append(kernel.client.get_iopub_msg(timeout=30))
    kernel.tell(customs(seen)[0][0], {"kind": "cancel"})
    assert kernel.run("r.wait(10), r.status").text() == "(True, 'stopped')"
