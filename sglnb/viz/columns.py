"""The engine's steps as columns to draw, and in words.

``static/columns.js`` holds the same in JavaScript; change both together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .plain import LABEL, row_label
from .text import clip_middle, count, one_line, seconds

Column = dict[str, Any]
Step = dict[str, Any]


def height_of(tokens: float) -> float:
    """How high ``tokens`` stand: a decoded token is 1, a prompt grows by its logarithm, so that
    both can be seen in one picture."""
    return tokens if tokens <= 1 else 1 + math.log2(tokens) / 2


def nearest(x: float) -> int:
    """The nearest whole number, halves up: as JavaScript does."""
    return math.floor(x + 0.5)


def step_columns(schedule: dict[str, Any], limit: int) -> list[Column]:
    """One column a step; if they are more than ``limit``, one for 2, 4, 8, ... steps, of which it
    shows the mean."""
    steps, size = schedule["steps"], 1
    while len(steps) > limit * size:
        size *= 2
    groups = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [
        _column(schedule, i * size, [(step, 1 / len(group)) for step in group])
        for i, group in enumerate(groups)
    ]


def time_columns(schedule: dict[str, Any], begin: float, width: float, n: int) -> list[Column]:
    """``n`` columns of ``width`` seconds each from ``begin``: means over their time."""
    shares: list[list[tuple[Step, float]]] = [[] for _ in range(n)]
    first = [0] * n
    for at, step in enumerate(schedule["steps"]):
        t1 = step["t"] - begin
        t0 = t1 - step["seconds"]
        for i in range(max(0, int(t0 / width)), min(n, int(t1 / width) + 1)):
            overlap = min(t1, (i + 1) * width) - max(t0, i * width)
            if overlap > 0:
                first[i] = first[i] if shares[i] else at
                shares[i].append((step, overlap / width))
    return [_column(schedule, first[i], each) for i, each in enumerate(shares)]


def _column(schedule: dict[str, Any], first: int, weighted: list[tuple[Step, float]]) -> Column:
    """``bands`` are ``[rid, cached, read, wrote]`` heights, in order of arrival, others last with
    rid ""."""
    bands: dict[str, list[float]] = {}
    for step, weight in weighted:
        for rid, read, wrote, cached in step["parts"]:
            band = bands.setdefault(rid, [0.0, 0.0, 0.0])
            band[0] += weight * height_of(cached)
            band[1] += weight * height_of(read)
            band[2] += weight * height_of(wrote / step["count"])
        prefilling, tokens, decoding = step["others"]
        if prefilling or decoding:
            band = bands.setdefault("", [0.0, 0.0, 0.0])
            band[1] += weight * prefilling * height_of(tokens / prefilling) if prefilling else 0.0
            band[2] += weight * decoding
    requests = schedule["requests"]
    order = sorted(bands, key=lambda rid: requests[rid]["at"] if rid else math.inf)
    last = weighted[-1][0] if weighted else None
    return {
        "first": first, "size": len(weighted),
        "bands": [[rid, *bands[rid]] for rid in order],
        "top": sum(sum(bands[rid]) for rid in order),
        "waiting": sum(step["waiting"] * weight for step, weight in weighted),
        "queue": sum(step["queue"] * weight for step, weight in weighted),
        "retracted": sum(len(step["retracted"]) for step, _ in weighted),
        "pool": last["used"] / last["total"] if last and last["total"] else None,
        "hit": last["hits"] / last["prompt"] if last and last["prompt"] else None,
    }  # fmt: skip


def column_words(view: dict[str, Any], first: int, size: int) -> list[str]:
    """What happened in ``size`` steps from the one at ``first``: a head and plain sentences."""
    schedule = view["schedule"]
    steps = schedule["steps"][first : first + size]
    if not steps:
        return []
    one, last = steps[0], steps[-1]
    t0 = schedule["steps"][0]["t"] - schedule["steps"][0]["seconds"]
    spent = sum(step["seconds"] for step in steps)
    begun = one["step"] - one["count"] + 1
    name = f"step {begun}" if begun == last["step"] else f"steps {begun} to {last['step']}"
    words = [f"{name} · {seconds(spent)}, at {seconds(max(0.0, last['t'] - t0))}"]

    def named(rids: Iterable[str]) -> str:
        names = list(dict.fromkeys(request_name(view, rid) for rid in rids))
        more = [f"{len(names) - 4} more"] if len(names) > 4 else []
        return ", ".join(names[:4] + more)

    parts = [part for step in steps for part in step["parts"]]
    readers = [part[0] for part in parts if part[1]]
    if readers:
        read, cached = sum(part[1] for part in parts), sum(part[3] for part in parts)
        found = f" and finds {cached:,} in the cache" if cached else ""
        words.append(f"reads {count(read, 'prompt token')} of {named(readers)}{found}")
    writers = [part[0] for part in parts if part[2]]
    made, forced = sum(s["made"] for s in steps), sum(s["forced"] for s in steps)
    if made:
        rate = f" ({nearest(made / spent):,} tokens/s)" if spent > 0 else ""
        whom = f" for {named(writers)}" if writers else ""
        jumped = f"; {forced:,} without a forward pass" if forced else ""
        words.append(f"writes {count(made, 'token')}{whom}{rate}{jumped}")
    others = [max(s["others"][i] for s in steps) for i in (0, 2)]
    if any(others):
        words.append(f"beside others: {others[0]:,} that read, {others[1]:,} that write")
    if last["waiting"]:
        own = f", {last['queue']:,} of them known here" if last["queue"] < last["waiting"] else ""
        words.append(f"{count(last['waiting'], 'request')} waiting{own}")
    back = [rid for step in steps for rid in step["retracted"]]
    if back:
        words.append(f"sent back to the queue to make room: {named(back)}")
    if last["total"]:
        share = nearest(100 * last["used"] / last["total"])
        words.append(f"the pool is {share} % full: {last['used']:,} of {last['total']:,} tokens")
    if last["prompt"]:
        share, prompt = nearest(100 * last["hits"] / last["prompt"]), last["prompt"]
        words.append(
            f"hit rate so far {share} %: {last['hits']:,} of {count(prompt, 'prompt token')}"
        )
    return words


def request_name(view: dict[str, Any], rid: str) -> str:
    """A request's name for people."""
    request = view["schedule"]["requests"].get(rid)
    if request is None:
        return one_line(rid)
    row = view["tokens"]["rows"].get(request["row"])
    name = row_label(row, request["name"]) if row else request["name"] or rid
    return clip_middle(one_line(name), LABEL)


def schedule_words(schedule: dict[str, Any]) -> str:
    """``41 steps of 12 ms · up to 5 requests at once · 186 tokens/s``."""
    steps = schedule["steps"]
    n = sum(step["count"] for step in steps)
    if not n:
        return ""
    spent = sum(step["seconds"] for step in steps)
    most = max(map(_crowd, steps))
    words = [
        f"{count(n, 'step')} of {seconds(spent / n)}",
        f"up to {count(most, 'request')} at once",
    ]
    if spent > 0:
        words.append(f"{nearest(sum(step['made'] for step in steps) / spent):,} tokens/s")
    waited = max(step["waiting"] for step in steps)
    if waited:
        words.append(f"up to {waited:,} waiting")
    back = sum(len(step["retracted"]) for step in steps)
    if back:
        words.append(f"{back:,} sent back")
    return " · ".join(words)


def is_busy(schedule: dict[str, Any]) -> bool:
    """Whether there is more to see than one request after the other."""
    return any(_crowd(s) > 1 or s["waiting"] or s["retracted"] for s in schedule["steps"])


def _crowd(step: Step) -> int:
    return len(step["parts"]) + step["others"][0] + step["others"][2]
