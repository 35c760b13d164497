"""What the sub-commands of ``%sgl`` tell: engine, models, runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .table import Note, Table

if TYPE_CHECKING:
    from .run import Run


def status_table(backend: Any) -> Table:
    """Model, device, threads, cache and queues of an engine."""
    if not hasattr(backend, "status"):
        return Table("backend", [("model", backend.model_name), ("kind", type(backend).__name__)])
    facts = dict(backend.status())
    rows: list[tuple[str, str]] = [
        ("model", facts["model"]),
        (
            "runs on",
            f"{facts['device']}, {facts['dtype']}, attention {facts['attention']}, "
            f"{facts['threads']} threads",
        ),
        ("context", f"{facts['context_length']:,} tokens"),
    ]
    if facts["state"] == "closed":
        return Table("engine (shut down)", rows)
    if "preparing" in facts:
        return Table("engine (getting ready)", [*rows, ("now", facts["preparing"])])
    rows += [
        (
            "KV pool",
            f"{facts['kv_used']:,} of {facts['kv_tokens']:,} tokens used "
            f"({facts['kv_cached']:,} cached, {facts['kv_locked']:,} locked)",
        ),
        ("settings", _settings(backend)),
        ("requests", f"{facts['running']} running, {facts['waiting']} waiting"),
        (
            "cache",
            f"{facts['cache_hit_rate']:.0%} of prompt tokens were found in the cache "
            f"({facts['cached_tokens']:,} of {facts['prompt_tokens']:,})",
        ),
    ]
    released = " (released; call resume() on it)" if facts["state"] == "released" else ""
    return Table(f"engine{released}", rows)


def _settings(backend: Any) -> str:
    s = backend.configure()
    jump = "" if s["jump_forward"] else ", no jump-forward"
    return f"{s['policy']} admits, {s['eviction']} evicts, temperature {s['temperature']:g}{jump}"


def models_table(embedded: str, backends: Iterable[Any], hub_cache: Path | None) -> Table:
    """What can stand after ``--model`` without a download."""
    rows = {embedded: "embedded"}
    for backend in backends:
        name = str(backend.model_name)
        rows[name] = "embedded, loaded" if name == embedded else "loaded"
    for folder in sorted(hub_cache.glob("models--*--*")) if hub_cache else ():
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        if any(folder.glob("snapshots/*/*.safetensors")):
            rows.setdefault(name, "downloaded")
    return Table(
        "models",
        list(rows.items()),
        ("name", "where"),
        note="Any folder with config.json and *.safetensors works too: %%sgl --model PATH",
    )


def runs_table(runs: Mapping[str, Run]) -> Table | Note:
    """The runs of this session, oldest first."""
    if not runs:
        return Note("no runs yet; a cell that starts with %%sgl makes one")
    rows = [(run.id, run.title, run.status, run.summary()) for run in runs.values()]
    note = f"r = %sgl runs {rows[-1][0]} gives a run as an object"
    return Table("runs", rows, ("run", "cell", "status", "summary"), note=note)
