"""Reads a program's syntax tree into its plan (see :mod:`.plan`).

The reader is built in layers, each a file: where the states stand (:mod:`.plan_tips`), what is
appended to them (:mod:`.plan_parts`), calls (:mod:`.plan_calls`), statements
(:mod:`.plan_statements`).
"""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from .plan import START, Plan, logger
from .plan_names import Scope, StateName, function_source, stored_names
from .plan_statements import StatementsReader
from .program import SglFunction


def plan_of_cell(
    source: str, file: str, namespace: dict[str, Any], lent: Mapping[str, Any]
) -> Plan | None:
    """The plan of a ``%%sgl`` cell whose state is called ``s``; None where it cannot be made.

    Args:
        source: with the line numbers that its code objects have.
        file: their file name.
        namespace: where it will run.
        lent: names that are put there while it runs.
    """
    return _safely(lambda: _cell(source, file, namespace, lent))


def plan_of_program(program: SglFunction) -> Plan | None:
    """The plan of one program, whatever its arguments."""
    return _safely(lambda: _program(program))


def _safely(make: Callable[[], Plan | None]) -> Plan | None:
    try:
        plan = make()
    except Exception:  # a plan is a picture: without it the program runs all the same
        logger.exception("the plan of a program could not be made")
        return None
    return plan if plan is not None and plan.nodes else None


def _cell(source: str, file: str, namespace: dict[str, Any], lent: Mapping[str, Any]) -> Plan:
    body = ast.parse(source).body
    names = {"s": StateName(START)}
    scope = Scope(file, ChainMap(dict(lent), namespace), names, stored_names(body))
    reader = StatementsReader(namespace, scope)
    reader.follow(names["s"])
    reader.block(body, scope, 0)
    return reader.plan


def _program(program: SglFunction) -> Plan | None:
    node = function_source(program.func)
    if node is None:
        return None
    reader = StatementsReader()
    names = {"s": reader.follow(StateName(START))}
    names |= {k: v for k, v in program.bind_arguments.items() if type(v) is str}
    scope = reader.scope_of(program.func, node, names)
    reader.block(node.body, scope, 0)
    return reader.plan
