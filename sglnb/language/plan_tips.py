"""Where the states of a plan stand, and what is added to them (see :mod:`.plan_reader`)."""

from __future__ import annotations

import ast
from typing import Any

from .plan import Plan
from .plan_names import GroupName, Scope, StateName

CODE = 120
"""Characters of code that a node keeps."""


def code_of(node: ast.AST) -> str:
    """Its source, clipped."""
    text = ast.unparse(node)
    return text if len(text) <= CODE else text[: CODE - 1] + "…"


class Tips:
    """The states that a reader follows: each one's tip, the node that its text ends with. It is
    None where the source does not say which: after one of several ways, or between rounds."""

    def __init__(self) -> None:
        self.plan = Plan()
        self._states: list[StateName] = []

    def follow(self, state: StateName) -> StateName:
        """One more state whose text is followed."""
        self._states.append(state)
        return state

    def new_state(self, tip: int | None, role: str | None = None) -> StateName:
        return self.follow(StateName(tip, role))

    def _now(self) -> dict[int, tuple[Any, Any]]:
        return {id(s): (s.tip, s.role) for s in self._states}

    def _back_to(self, then: dict[int, tuple[Any, Any]]) -> None:
        for state in self._states:
            state.tip, state.role = then.get(id(state), (None, None))

    def _lose(self, then: dict[int, tuple[Any, Any]]) -> None:
        for state in self._states:
            if then.get(id(state)) != (state.tip, state.role):
                state.tip = None

    def _merge(self, ends: list[dict[int, tuple[Any, Any]]]) -> None:
        """After one of several ways, whichever it was."""
        for state in self._states:
            tips = {end[id(state)][0] for end in ends if id(state) in end}
            roles = {end[id(state)][1] for end in ends if id(state) in end}
            state.tip = tips.pop() if len(tips) == 1 else None
            state.role = roles.pop() if len(roles) == 1 else None

    @staticmethod
    def _all_branches(group: GroupName, like: StateName) -> None:
        """Each branch of the group went on as ``like`` did."""
        group.tip, group.role = (like.tip if not group.branches else None), like.role
        for branch in group.branches.values():
            branch.tip, branch.role = None, like.role

    def _drop_if_empty(self, mark: int) -> None:
        """A loop or a condition that has nothing to do with states is nothing to see."""
        if len(self.plan.nodes) == mark + 1 and not self.plan.more:
            self.plan.nodes.pop()

    def _add(
        self, kind: str, at: ast.AST, state: StateName, scope: Scope, depth: int, **more: Any
    ) -> None:
        if kind == "text" and (not more["text"] or self._goes_on(state, depth, more["text"])):
            return
        state.tip = self.plan.add(
            kind, depth, scope.file, at, prev=state.tip, role=state.role,
            opens=state.turned, **more,
        )  # fmt: skip
        state.turned = False

    def _goes_on(self, state: StateName, depth: int, text: str) -> bool:
        """Whether ``text`` could be added to a constant right before it in the same message."""
        last = self.plan.nodes[-1] if self.plan.nodes else None
        if last is None or last.kind != "text" or last.id != state.tip or state.turned:
            return False
        return last.depth == depth and not self.plan.more and self.plan.extend(last, text)
