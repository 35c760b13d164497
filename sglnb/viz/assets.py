"""The front end's text: our ES modules joined into one, and the style sheet.

anywidget takes one module as text, and so does a self-contained page. The modules in
``static/`` only import from each other, by name, and all their top-level names differ; so
joining them is dropping every ``import … from "./x.js";`` and every ``export`` before a
declaration, and concatenating in dependency order. The last one ends with the
``export default`` that anywidget asks for. Node and the tests load the files as they are.

Every saved view carries a copy, so what is kept is the module gzipped (a third of the size), in a
module that unpacks it with the browser's own ``DecompressionStream`` (all have it since 2023).
"""

from __future__ import annotations

import base64
import gzip
import re
from functools import cache
from importlib.resources import files

MODULES = ("table.js", "reduce_header.js", "reduce_tokens.js", "reduce_tree.js",
           "reduce_branches.js", "reduce_constraint.js", "reduce_schedule.js",
           "reduce_program.js", "reduce.js",
           "wire.js", "store.js", "layout.js", "columns.js", "fsm.js", "dom.js", "ask.js",
           "card.js", "header.js", "replay.js", "tokenlooks.js", "tokencard.js",
           "tokenpages.js", "tokentools.js", "tokens.js", "treewords.js", "treetools.js",
           "tree.js", "compare.js", "programrows.js", "program.js", "branches.js",
           "constraint.js", "schedule.js", "selection.js", "view.js")  # fmt: skip
TREE_MODULES = ("table.js", "reduce_tree.js", "wire.js", "layout.js", "dom.js", "ask.js", "card.js",
                "treewords.js", "treetools.js", "tree.js", "treeview.js")  # fmt: skip
METER_MODULES = ("layout.js", "dom.js", "meter.js")

_IMPORT = re.compile(r'^import\s[^;]*?from\s+"\./[\w.]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |function[ *]|class |async )", re.MULTILINE)

_COMMENT = re.compile(r"^[ \t]*(//.*|/\*[*\s](?:.|\n)*?\*/)$", re.MULTILINE)

UNPACK = """const unpack = async (text) => {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};
const load = async (text) => {
  const url = URL.createObjectURL(new Blob([await unpack(text)], { type: "text/javascript" }));
  const { default: view } = await import(url);
  URL.revokeObjectURL(url);
  return view;
};"""
"""JavaScript: ``unpack(text)`` undoes :func:`pack`, ``load(text)`` gives the packed module's
default export."""


def pack(text: str) -> str:
    """``text`` gzipped, in base64: the same each time, and harmless wherever it is put."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def packed(module: str) -> str:
    """A small ES module with the same default export as ``module``."""
    return f'{UNPACK}\nconst view = await load("{pack(module)}");\nexport default view;\n'


def _read(name: str) -> str:
    return files("sglnb.viz").joinpath("static", name).read_text(encoding="utf-8")


def join_modules(sources: list[str]) -> str:
    """One ES module out of several, as described above. Comment lines and indentation go too,
    as they say nothing to a browser (no string of ours spans lines)."""
    joined = "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)
    return re.sub(r"\n\s*", "\n", _COMMENT.sub("", joined))


@cache
def esm() -> str:
    """The run view as one ES module with a default export ``{ render }``."""
    return join_modules([_read(name) for name in MODULES])


@cache
def tree_esm() -> str:
    """The tree alone, in the same form."""
    return join_modules([_read(name) for name in TREE_MODULES])


@cache
def meter_esm() -> str:
    """A dashboard's live numbers, in the same form."""
    return join_modules([_read(name) for name in METER_MODULES])


@cache
def css() -> str:
    """The views' style sheet; every rule is under ``.sglnb``."""
    return re.sub(r"\n\s*", "\n", re.sub(r"/\*(?:.|\n)*?\*/", "", _read("view.css")))
