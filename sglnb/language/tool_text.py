"""Tools described for a model: the schemas of chat formats, and text for a prompt."""

from __future__ import annotations

import enum
import inspect
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..runtime.constraints.signatures import UNKNOWN, Function, read_function
from ..runtime.constraints.tools import arguments_type, tool_set
from ..runtime.constraints.types import schema_of, type_name
from .calls import as_source

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?):\s*$", re.M)
_SPHINX = re.compile(r"^:param (?:[^:]*\s)?(\w+):\s*(.+)$", re.M)


def tool_schema(function: Any, name: str | None = None) -> dict[str, Any]:
    """A tool as chat formats and OpenAI's API describe it, for ``tools=`` of a chat template.

    Descriptions are the docstring's: its first paragraph for the tool, its ``Args:`` (or
    ``:param x:``) for the parameters, unless an annotation has its own (``Field(description=)``).

    Args:
        function: as for ``gen(tools=)``.
        name: another name for it.

    Raises:
        ConstraintError: it cannot be called from a text, or a parameter has no JSON.
    """
    read = read_function(function, "tools", name)
    schema = _untitled(json.loads(schema_of(arguments_type(read), f"tools: {read.name}()")))
    schema.setdefault("properties", {})
    about, each = _docstring(function)
    for key, text in each.items():
        if key in schema["properties"]:
            schema["properties"][key].setdefault("description", text)
    described = {"name": read.name, "description": about, "parameters": schema}
    return {"type": "function", "function": described}


def describe_tools(
    tools: Sequence[Any] | Mapping[str, Any],
    tool_style: str | None = None,
    when: str | Sequence[str] | None = None,
) -> str:
    """Text for a prompt that says which tools there are and how a call is written.

    Args:
        tools, tool_style, when: as for ``gen``.

    Raises:
        ConstraintError: as ``gen``.
    """
    called = tool_set(tools, tool_style, when)
    if called is None:
        raise TypeError("describe_tools: give a list of functions")
    functions = called.functions.values()
    if called.style == "python":
        head = "You can call these Python functions:"
        listed = [_class(name, kind) for name, kind in called.classes.items()]
        listed += map(_definition, functions)
        form = "function(parameter=value)"
    else:
        head = "You can call these functions:"
        listed = [
            json.dumps(tool_schema(f.function, f.name), ensure_ascii=False) for f in functions
        ]
        form = '{"name": "function", "arguments": {"parameter": value}}'
    begin, end = called.when or ("", "")
    return "\n".join([head, *listed, f"A call is written as: {begin}{form}{end}", ""])


def _untitled(value: Any) -> Any:
    """A copy of a schema without the titles that pydantic makes of the names."""
    if isinstance(value, list):
        return [_untitled(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = (k for k in value if k != "title" or not isinstance(value[k], str))
    return {k: value[k] if k in ("enum", "const", "default") else _untitled(value[k]) for k in kept}


def _docstring(function: Any) -> tuple[str, dict[str, str]]:
    """(the first paragraph, the description of each parameter)."""
    text = inspect.getdoc(function) or ""
    found = {name: " ".join(about.split()) for name, about in _SPHINX.findall(text)}
    parts = _SECTION.split(text)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title in ("Args", "Arguments", "Parameters"):
            found |= _entries(body)
    about = re.split(r"\n\s*\n|\n:param ", parts[0].strip())[0]
    return " ".join(about.split()), found


def _entries(body: str) -> dict[str, str]:
    """``name: text`` and ``name (type): text``, with the lines indented below."""
    out: dict[str, str] = {}
    name, indent = "", None
    for line in body.splitlines():
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        entry = re.match(r"\s*\**(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)", line)
        if depth == indent and entry:
            name, out[entry[1]] = entry[1], entry[2].strip()
        elif depth > indent and name:
            out[name] = f"{out[name]} {line.strip()}".strip()
        else:
            break
    return out


def _definition(function: Function) -> str:
    head = f"def {function.name}({_parameters(function)})"
    returns = "" if function.returns is UNKNOWN else f" -> {type_name(function.returns)}"
    about = (inspect.getdoc(function.function) or "").replace("\\", r"\\").replace('"', r"\"")
    return f"{head}{returns}:\n" + textwrap.indent(f'"""{about}"""' if about else "...", "    ")


def _parameters(function: Function) -> str:
    given = inspect.signature(function.function).parameters
    parts = []
    for p in function.parameters:
        if p.kind is p.kind.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = "" if p.required else f" = {as_source(given[p.name].default)}"
        parts.append(f"{p.name}: {type_name(p.type)}{default}")
        if p.kind is p.kind.POSITIONAL_ONLY:
            parts = [part for part in parts if part != "/"] + ["/"]
    return ", ".join(parts)


def _class(name: str, kind: type) -> str:
    if issubclass(kind, enum.Enum):
        return f"class {name}: {', '.join(f'{name}.{one.name}' for one in kind)}"
    try:
        return f"class {name}({_parameters(read_function(kind, 'tools'))})"
    except ValueError:  # a class that is written from a text, such as a date
        return f"class {name}"
