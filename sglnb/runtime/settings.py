"""What can be changed of a running engine, and whether a value is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .arguments import number, one_of
from .eviction import EVICTIONS
from .policy import POLICIES

if TYPE_CHECKING:
    from .core import EngineCore
    from .intake import Intake


def current(core: EngineCore, intake: Intake) -> dict[str, Any]:
    """The settings in force."""
    return {
        "policy": core.scheduler.policy,
        "eviction": core.memory.tree.eviction,
        "jump_forward": intake.jump_forward,
        "temperature": intake.temperature,
        "chunk_tokens": core.scheduler.chunk_tokens,
        "max_running": core.scheduler.max_running,
    }


def check(changes: dict[str, Any]) -> None:
    """Raise ValueError for the first change that is not possible."""
    for name, value in changes.items():
        if name not in _CHECKS:
            raise ValueError(
                f"configure: no setting called {name!r}; there are {', '.join(_CHECKS)}"
            )
        _CHECKS[name](name, value)


def apply(core: EngineCore, intake: Intake, changes: dict[str, Any]) -> None:
    """Make checked changes, between two steps."""
    for name, value in changes.items():
        if name == "policy":
            core.scheduler.set_policy(value)
        elif name == "eviction":
            core.memory.tree.set_eviction(value)
        elif name in ("jump_forward", "temperature"):
            setattr(intake, name, value)
        else:
            setattr(core.scheduler, name, value)


_CHECKS = {
    "policy": lambda name, value: one_of(name, value, tuple(POLICIES)),
    "eviction": lambda name, value: one_of(name, value, tuple(EVICTIONS)),
    "jump_forward": lambda name, value: one_of(name, value, (True, False)),
    "temperature": lambda name, value: number(name, value, 0),
    "chunk_tokens": lambda name, value: number(name, value, 1, whole=True),
    "max_running": lambda name, value: number(name, value, 1, whole=True),
}
