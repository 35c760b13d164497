"""What a token may be: regex and choices by a compressed automaton over characters."""

from sglnb.runtime.constraints.base import Closer, Constraint, Cursor
from sglnb.runtime.constraints.compiler import compile_constraint
from sglnb.runtime.constraints.graph import Edge, Graph, Graphs, Node

__all__ = [
    "Closer",
    "Constraint",
    "Cursor",
    "Edge",
    "Graph",
    "Graphs",
    "Node",
    "compile_constraint",
]
