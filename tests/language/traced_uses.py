"""Ways to ask a text for its value."""

from __future__ import annotations

import io
import json
import re
import textwrap
from pathlib import Path

import sglnb.language as sgl

USES = {
    "condition": lambda x: "a" if x else "b",
    "not": lambda x: not x,
    "equal": lambda x: x == "yes",
    "unequal": lambda x: x != "yes",
    "less": lambda x: x < "m",
    "in": lambda x: "a" in x,
    "in a list": lambda x: x in ["a", "b"],
    "in a set": lambda x: x in {"a", "b"},
    "key": lambda x: {"a": 1}.get(x),
    "len": len,
    "loop": list,
    "unpack": lambda x: [*x],
    "str": str,
    "repr": repr,
    "print": lambda x: print(x, file=io.StringIO()),
    "int": int,
    "float": float,
    "f-string": lambda x: f"{x}",
    "f-string with repr": lambda x: f"{x!r:>10}",
    "format": "{}".format,
    "percent": lambda x: "%s" % x,  # noqa: UP031
    "index": lambda x: x[0],
    "slice": lambda x: x[:3],
    "method": lambda x: x.strip(),
    "times": lambda x: x * 2,
    "join": lambda x: ", ".join([x, "b"]),
    "json": json.loads,
    "re": lambda x: re.match("a", x),
    "textwrap": textwrap.dedent,
    "sorted": lambda x: sorted([x, "b"]),
    "path": Path,
    "open": open,
    "encode": lambda x: x.encode(),
    "max": lambda x: max(x, "b"),
    "match": lambda x: [1 for _ in [0] if (lambda: x == "a")()],
    "replace in another": lambda x: "abc".replace("b", x),
    "bytes": lambda x: bytes(x, "utf8"),
    "gen parameter": lambda x: sgl.gen("z", stop=x),
    "regex parameter": lambda x: sgl.gen("z", regex=x),
    "choices": lambda x: sgl.select("z", choices=[x, "b"]),
    "image": lambda x: sgl.image(x + ".png"),
}
