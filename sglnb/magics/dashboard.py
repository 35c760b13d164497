"""``sgl.dashboard()``: the engine's state and controls beside the cells that use it."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from ..errors import SglError
from ..language.backend import set_default_backend
from ..runtime import Engine, open_engines
from ..runtime.eviction import EVICTIONS
from ..runtime.policy import POLICIES
from ..viz.base import hear_while_busy
from ..viz.meter import Meter, Rates
from ..viz.text import one_line
from .engines import engine_labels, named_engine

EVERY = 0.5
"""Seconds between two looks at the engine while the dashboard is in sight."""

_NARROW = {"width": "190px"}
_STYLE = {"description_width": "86px"}


class Dashboard(w.VBox):
    """See :func:`sglnb.dashboard`. It acts on the engine that is chosen in it, until that is shut
    down. :meth:`close` takes it away; the engines go on."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._jobs: queue.SimpleQueue[Callable[[], str] | None] = queue.SimpleQueue()
        self._showing = False  # what the engine says is being put in the controls
        self._rates = Rates()
        self._loading = ""  # the model that a thread of its own is loading
        settings = engine.configure()
        self._model = w.Dropdown(description="model", tooltip="the engine that this board acts on",
                                 layout={"width": "300px"}, style=_STYLE)  # fmt: skip
        self._list_engines()
        self._model.observe(self._on_model, "value")
        self._default = self._button(
            "Make default", "programs run on it from now on", self._make_default, "110px"
        )
        self._path = w.Text(
            placeholder="folder or hub name", description="load", tooltip="a model to load",
            continuous_update=False, layout={"width": "260px"}, style={"description_width": "40px"},
        )  # fmt: skip
        self._load = self._button("Load", "load it beside the others", self._begin_load)
        self._policy = self._choice("policy", POLICIES, settings)
        self._eviction = self._choice("eviction", EVICTIONS, settings)
        self._temperature = w.BoundedFloatText(
            settings["temperature"], min=0, max=100, step=0.1, description="temperature",
            tooltip="of requests that do not say", layout=_NARROW, style=_STYLE,
        )  # fmt: skip
        self._jump = w.Checkbox(
            settings["jump_forward"], description="jump_forward", indent=False,
            tooltip="write what a constraint forces without sampling it", layout=_NARROW,
        )  # fmt: skip
        self._pool = w.BoundedIntText(
            engine.metrics()["kv_tokens"], min=1, max=1 << 40, description="pool",
            tooltip="tokens of KV", layout=_NARROW, style=_STYLE,
        )  # fmt: skip
        for control, name in ((self._temperature, "temperature"), (self._jump, "jump_forward")):
            self._on_change(control, name)
        self._meter = Meter()
        self._said = w.Label("", layout={"min_height": "24px"}).add_class("sglnb-said")
        self._life = self._button("Release", "give weights and KV memory back", self._release)
        buttons = [
            self._button("Stop", "stop all requests; their text so far is kept", self._stop),
            self._button("Flush", "forget what nobody uses or pinned", self._flush),
            self._button("Resize", "give the pool the size beside", self._resize),
            self._life,
        ]
        rows = [
            w.HBox([self._model, self._default, self._path, self._load]),
            w.HBox([self._policy, self._eviction, self._temperature, self._jump]),
            w.HBox([self._pool, buttons[2], buttons[0], buttons[1], self._life]),
        ]
        super().__init__([self._meter, *rows, self._said])
        for row in rows:
            for control in row.children:
                hear_while_busy(control)
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name="sglnb-dashboard", daemon=True
        )
        self._thread.start()

    # -- controls --------------------------------------------------------------------------

    def _choice(self, name: str, known: Any, settings: dict[str, Any]) -> w.Dropdown:
        control = w.Dropdown(
            options=list(known), value=settings[name], description=name, layout=_NARROW,
            style=_STYLE,
        )  # fmt: skip
        self._on_change(control, name)
        return control

    def _on_change(self, control: w.ValueWidget, name: str) -> None:
        def changed(change: Any) -> None:
            if not self._showing:
                self._jobs.put(lambda: self._configure(name, change["new"]))

        control.observe(changed, "value")

    def _button(self, text: str, tip: str, act: Callable[[], str], width: str = "80px") -> w.Button:
        button = w.Button(description=text, tooltip=tip, layout={"width": width})
        button.on_click(lambda _: self._jobs.put(act))
        return button

    # -- which engine ----------------------------------------------------------------------

    def _list_engines(self) -> None:
        """Bring the list of engines up to date. It holds none: one that nobody has is gone."""
        options = {label: engine._number for label, engine in engine_labels().items()}
        shown = tuple(options.items())
        if self._model.options != shown and not self._engine.closed:
            self._showing = True
            try:
                self._model.options = shown
                self._model.value = self._engine._number
            finally:
                self._showing = False

    def _on_model(self, change: Any) -> None:
        if not self._showing and change["new"] is not None:
            self._jobs.put(lambda: self._choose(change["new"]))

    def _choose(self, number: int) -> str:
        engine = next((e for e in open_engines() if e._number == number), None)
        if engine is None:
            return "that engine was shut down"
        self._act_on(engine)
        return f"this board acts on {engine.model_name} now"

    def _act_on(self, engine: Engine) -> None:
        self._engine, self._rates = engine, Rates()
        self._pool.value = engine.metrics()["kv_tokens"]

    def _make_default(self) -> str:
        set_default_backend(self._engine)
        return f"programs run on {self._engine.model_name} unless they say otherwise"

    def _begin_load(self) -> str:
        """Load the model that was typed, in a thread of its own: the board goes on."""
        model = self._path.value.strip()
        if not model:
            return "type the folder or the hub name of a model to load"
        if self._loading:
            return f"not now: {self._loading} is being loaded"
        self._loading, self._load_began = model, time.monotonic()
        self._load.disabled = True
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._do_load, model), name="sglnb-load", daemon=True
        ).start()
        return f"loading {model}"

    def _do_load(self, model: str) -> None:
        try:
            engine = named_engine(model)
        except Exception as error:  # whatever a checkpoint can be wrong about is told in words
            why = one_line(str(error).removeprefix("model: "))
            self._jobs.put(lambda: self._loaded(None, f"{model} was not loaded: {why}"))
        else:
            self._jobs.put(lambda: self._loaded(engine, f"{model} is loaded; the board acts on it"))

    def _loaded(self, engine: Engine | None, told: str) -> str:
        self._loading, self._load.disabled = "", False
        if engine is not None:
            self._act_on(engine)
            self._path.value = ""
        return told

    # -- settings --------------------------------------------------------------------------

    def _configure(self, name: str, value: Any) -> str:
        self._engine.configure(**{name: value})
        return f"{name} is {value!r} from the next step on"

    def _resize(self) -> str:
        self._engine.resize(self._pool.value)
        return f"the pool holds {self._engine.metrics()['kv_tokens']:,} tokens now"

    def _stop(self) -> str:
        m = self._engine.metrics()
        self._engine.abort()
        n = m["running"] + m["waiting"]
        return f"{n} request{'' if n == 1 else 's'} stopped" if n else "nothing was running"

    def _flush(self) -> str:
        return f"{self._engine.cache.flush():,} cached tokens forgotten"

    def _release(self) -> str:
        if self._engine.status()["state"] == "released":
            self._engine.resume()
            return "the engine is back"
        self._engine.release()
        return "weights and KV memory are given back; Resume takes them again"

    # -- the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        """Does what was asked for, and looks at the engine while someone sees it."""
        while not self._engine.closed:
            try:
                job = self._jobs.get(timeout=EVERY)
                if job is None:
                    return
                self._do(job)
            except queue.Empty:
                pass
            if self._meter.in_sight:
                self._look()
        self._meter.tell({"state": "shut down", "model": self._engine.model_name})

    def _do(self, job: Callable[[], str]) -> None:
        try:
            self._said.value = job()
        except (SglError, ValueError, OSError) as error:
            self._said.value = f"not now: {error}" if isinstance(error, SglError) else str(error)
        self._settle()

    def _settle(self) -> None:
        """Show the settings in force: a refused one goes back."""
        self._list_engines()
        settings = self._engine.configure()
        self._showing = True
        try:
            for control, name in (
                (self._policy, "policy"), (self._eviction, "eviction"),
                (self._temperature, "temperature"), (self._jump, "jump_forward"),
            ):  # fmt: skip
                if control.value != settings[name]:
                    control.value = settings[name]
            if self._model.value != self._engine._number:
                self._model.value = self._engine._number
        finally:
            self._showing = False

    def _look(self) -> None:
        self._list_engines()
        if self._loading:
            seconds = time.monotonic() - self._load_began
            self._said.value = f"loading {self._loading}: {seconds:.0f} s"
        status = self._engine.status()
        label = "Resume" if status["state"] == "released" else "Release"
        if self._life.description != label:
            self._life.description = label
        self._meter.tell(self._rates(status))

    def close(self) -> None:
        """Take the dashboard away and end its thread."""
        self._jobs.put(None)
        super().close()

    def __repr__(self) -> str:
        return f"Dashboard({self._engine!r})"
