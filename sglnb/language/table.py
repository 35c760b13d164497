"""A batch whose rows are those of a DataFrame, and whose results are a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import one_line
from .rows import Rows, rows_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from .state import ProgramState

ABOUT = ("error", "tokens", "cached", "forced", "seconds", "state")
"""Columns that tell of a row; a variable of the same name gets a column ``name_``."""


def is_table(batch: Any) -> bool:
    """Whether ``batch`` is a pandas DataFrame (which is not imported to find out)."""
    return hasattr(batch, "columns") and hasattr(batch, "to_dict") and hasattr(batch, "index")


def rows_of_table(table: DataFrame, names: Sequence[str], all_columns: bool) -> Rows:
    """The arguments of each row: its values in the columns named as parameters.

    Args:
        all_columns: the program takes any keyword, so every column is an argument.

    Raises:
        ValueError: two columns have the same name. TypeError: no column is a parameter.
    """
    columns = [c for c in table.columns if all_columns or c in names]
    double = [c for c in columns if list(table.columns).count(c) > 1]
    if double:
        raise ValueError(f"batch_kwargs: there are several columns named {double[0]!r}")
    if not columns and names and len(table):
        raise TypeError(
            f"batch_kwargs: none of the columns ({', '.join(map(str, table.columns)) or 'none'}) "
            f"is a parameter of the program ({', '.join(names)}); rename them: df.rename(columns=)"
        )
    values = [table[column].tolist() for column in columns]  # Python's own numbers and strings
    rows = zip(*values, strict=True) if columns else (() for _ in range(len(table)))
    keys = [str(column) for column in columns]
    known = [dict(zip(keys, row, strict=True)) for row in rows]
    return Rows(iter(known), known)


def given_rows(batch: Any, names: list[str], all_columns: bool) -> Rows:
    """The rows of a table, a list or an iterator."""
    if is_table(batch):
        return rows_of_table(batch, names, all_columns)
    return rows_of(batch, names)


def results_table(states: Sequence[ProgramState | None], index: Any) -> DataFrame:
    """One row a state: its variables, what went wrong, its tokens, the state itself. None is a
    row that was not begun."""
    import pandas as pd

    names: dict[str, None] = {}
    for state in states:
        names.update(dict.fromkeys(state.variables if state is not None else ()))
    variables = [state.variables if state is not None else {} for state in states]
    columns: dict[str, Any] = {}
    for name in names:
        column = pd.Series([found.get(name) for found in variables], index=index, dtype=object)
        columns[f"{name}_" if name in ABOUT else name] = column.infer_objects()
    families = [state.stream_executor.family if state is not None else None for state in states]

    def whole(field: str) -> Any:
        counts = [getattr(f.usage, field) if f is not None else None for f in families]
        return pd.Series(counts, index=index, dtype="Int64")

    columns |= {
        "error": pd.Series([_error(state) for state in states], index=index, dtype=object),
        "tokens": whole("tokens"),
        "cached": whole("cached"),
        "forced": whole("forced"),
        "seconds": pd.Series(
            [f.seconds if f is not None else None for f in families], index=index, dtype="Float64"
        ),
        "state": pd.Series(list(states), index=index, dtype=object),
    }
    return pd.DataFrame(columns, index=index)


def _error(state: ProgramState | None) -> str | None:
    if state is None:
        return "not run"
    error = state.stream_executor.error_
    return one_line(error) if error is not None else None
