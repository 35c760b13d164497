"""What the language itself costs, and what the hint at a fork saves.

    python benchmarks/language.py [--rounds 15] [--prefix 600] [--branches 8]

The first table runs programs on a backend that answers at once, so that all the time is the
language's own: shortest of many rounds. The second runs on the embedded model: seconds from
asking to a branch's first token, with and without the hint that ``fork`` sends, when the
program forks and asks at once, and when it works between the two (looks something up, calls a
tool). Both sides of a ratio are measured in turn in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import sglnb as sgl
from sglnb.language import perform
from sglnb.testing import ScriptedBackend

READY_MADE = sgl.gen("x", max_tokens=8)


@sgl.function
def nothing(s):
    pass


@sgl.function
def constant(s):
    s += "text"


@sgl.function
def one_gen(s):
    s += READY_MADE


@sgl.function
def two_gens(s, question):
    s += "Q: " + question + "\nA:" + sgl.gen("x", max_tokens=8)
    s += "\nB:" + sgl.gen("y", stop="\n")


@sgl.function
def two_turns(s, question):
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("x", max_tokens=8))
    s += sgl.user("And?")
    s += sgl.assistant(sgl.gen("y", max_tokens=8))


@sgl.function
def forked(s, size):
    s += "text"
    group = s.fork(size)
    group += READY_MADE
    group.join()


def shortest(work: Callable[[], object], rounds: int, times: int = 200) -> float:
    """Seconds of one call, from the quickest of ``rounds`` rounds of ``times`` calls."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, (time.perf_counter() - began) / times)
    return best


def overhead(rounds: int) -> None:
    """The first table."""

    def micro(work: Callable[[], object], times: int = 5) -> float:
        # Many short rounds: on a machine that does other things, too, a long one is never alone.
        return shortest(work, rounds * 40, times) * 1e6

    def program(body: sgl.SglFunction, times: int = 5, **arguments: object) -> float:
        # A log of its own: with a full one each event costs the end of an old one, too.
        backend = ScriptedBackend("ok", "instant")
        return micro(lambda: body.run(backend=backend, **arguments), times)

    empty, text, gen = program(nothing), program(constant), program(one_gen)
    fork = program(forked, times=1, size=100)
    rows = [
        ("a run of nothing (its run, its state, 4 events)", empty),
        ("  a text appended", text - empty),
        ("  a gen performed", gen - empty),
        ("making gen(...), which checks its parameters", micro(lambda: sgl.gen("x", max_tokens=8))),
        ("a program of two gens", program(two_gens, question="q")),
        ("two turns of a chat", program(two_turns, question="q")),
        ("fork(100), a gen in each, join", fork),
        ("  each branch", (fork - text) / 100),
    ]
    for name, microseconds in rows:
        print(f"{name:52}{microseconds:9.1f} us")


def first_tokens(engine: sgl.Engine, prefix: str, branches: int, work: float) -> float:
    """Seconds from asking to each branch's first token, the mean of them, from a cold cache."""
    asked = 0.0

    @sgl.function
    def program(s):
        nonlocal asked
        s += prefix
        group = s.fork(branches)
        time.sleep(work)
        asked = engine.events.now()
        group += lambda i: f"\n{i}." + sgl.gen("x", max_tokens=1, ignore_eos=True)
        group.join()

    engine.cache.flush()
    start = engine.events.next_seq
    state = program.run(backend=engine)
    events = engine.events.since(start)
    mine = {
        event.rid
        for event in events
        if event.kind == "request_arrived" and event.run == state.run_id and event.purpose == "gen"
    }
    first = [event.t for event in events if event.kind == "tokens" and event.rid in mine]
    return sum(first) / len(first) - asked


def hint(rounds: int, tokens: int, branches: int) -> None:
    """The second table."""
    send = perform._send_hint
    with sgl.Engine(kv_tokens=20_000) as engine:
        words = "The harbour lay quiet, and the old boats turned slowly with the wind. " * 100
        prefix = engine.tokenizer.decode(engine.tokenizer.encode(words)[:tokens])
        first_tokens(engine, prefix, branches, 0.0)
        for work in (0.0, 0.1, 0.5):
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(rounds):
                for hinted in seconds:
                    perform._send_hint = send if hinted else lambda ex: None
                    seconds[hinted].append(first_tokens(engine, prefix, branches, work))
            perform._send_hint = send
            without, with_hint = median(seconds[False]), median(seconds[True])
            print(
                f"{branches} branches of {tokens} tokens, {work * 1000:3.0f} ms of other work: "
                f"{without * 1000:6.1f} ms without the hint, {with_hint * 1000:6.1f} ms with it, "
                f"{without / with_hint:.2f}x"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--prefix", type=int, default=600, help="tokens before the fork")
    parser.add_argument("--branches", type=int, default=8)
    args = parser.parse_args()
    overhead(args.rounds)
    hint(max(3, args.rounds // 3), args.prefix, args.branches)


if __name__ == "__main__":
    main()
