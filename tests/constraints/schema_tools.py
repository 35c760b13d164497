"""Random JSON schemas of what can be enforced, instances of them, and a model made of dice."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import strategies as st

NAMES = ["a", "name", "日", 'q"', "x y"]
WORDS = ["", "cat", "category", "é", 'say "hi"', "a\nb", "日本"]

_leaf = st.one_of(
    st.sampled_from([{"type": "string"}, {"type": "boolean"}, {"type": "null"}, {}]),
    st.tuples(st.integers(-20, 20), st.integers(0, 30)).map(
        lambda t: {"type": "integer", "minimum": t[0], "maximum": t[0] + t[1]}
    ),
    st.just({"type": "number", "exclusiveMinimum": 0, "maximum": 2.5}),
    st.tuples(st.integers(0, 3), st.integers(0, 4)).map(
        lambda t: {"type": "string", "minLength": t[0], "maxLength": t[0] + t[1]}
    ),
    st.sampled_from(["^[a-c]+$", "b", r"^\d{2}-\d$", "^(cat|dog)s?$"]).map(
        lambda p: {"type": "string", "pattern": p}
    ),
    st.sampled_from(["date", "ipv4", "uuid"]).map(lambda f: {"type": "string", "format": f}),
    st.lists(st.sampled_from([1, -5, None, True, *WORDS, [1, "a"], {"k": 1}]), min_size=1).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from([0, "x", None]).map(lambda v: {"const": v}),
    st.just({"type": ["integer", "null"]}),
)


def _larger(inner: st.SearchStrategy) -> st.SearchStrategy:
    @st.composite
    def objects(draw):
        properties = draw(st.dictionaries(st.sampled_from(NAMES), inner, max_size=3))
        required = [name for name in properties if draw(st.booleans())]
        schema = {"type": "object", "properties": properties, "required": required}
        more = draw(st.sampled_from([False, None]))
        return schema if more is None else schema | {"additionalProperties": more}

    @st.composite
    def arrays(draw):
        least = draw(st.integers(0, 2))
        bounds = {"minItems": least, "maxItems": least + draw(st.integers(0, 2))}
        return {"type": "array", "items": draw(inner)} | bounds

    pairs = st.tuples(inner, inner)
    return st.one_of(
        objects(),
        arrays(),
        pairs.map(
            lambda p: {"type": "array", "prefixItems": list(p), "items": False, "minItems": 2}
        ),
        inner.map(lambda s: {"type": "object", "additionalProperties": s}),
        pairs.map(lambda p: {"anyOf": list(p)}),
    )


schemas = st.recursive(_leaf, _larger, max_leaves=6)


def instance(schema, rng: random.Random, wrong: float = 0.0):
    """A value in the shape of ``schema``, keys in its order; with probability ``wrong`` a part
    is any other value. Whether it is valid is for jsonschema to say."""
    if rng.random() < wrong or not isinstance(schema, dict):
        return rng.choice([None, 3, -1.5, "cat", "", True, [], {}, [1], {"a": 1}])
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return instance(rng.choice(schema["anyOf"]), rng, wrong)
    kind = schema.get("type", "string")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        names = [
            name
            for name in schema.get("properties", {})
            if name in schema.get("required", ()) or rng.random() < 0.5
        ]
        out = {name: instance(schema["properties"][name], rng, wrong) for name in names}
        more = schema.get("additionalProperties", {"type": "integer"})
        if more and rng.random() < 0.3:
            out["zz"] = instance(more, rng, wrong)
        return out
    if kind == "array":
        first = [instance(s, rng, wrong) for s in schema.get("prefixItems", ())]
        least, most = schema.get("minItems", 0), schema.get("maxItems", 2)
        items = schema.get("items") or {}
        count = rng.randint(max(least, len(first)), max(most, len(first)))
        return first + [instance(items, rng, wrong) for _ in range(count - len(first))]
    if kind in ("integer", "number"):
        low, high = int(schema.get("minimum", -3)), int(schema.get("maximum", 40))
        return rng.randint(low - 1, high + 1) if kind == "integer" else rng.choice([0, 1, 2.5, 3])
    if kind == "string":
        samples = ["ab", "b", "12-3", "cats", "2024-02-29", "2023-02-29", "10.0.0.1", *WORDS]
        size = schema.get("minLength", 0)
        return rng.choice([*samples, "日" * size, "x" * (size + 9)])
    return {"boolean": True, "null": None}[kind]


def write(cursor, tokenizer, rng: random.Random, limit: int, jump: bool = True) -> str | None:
    """A text by a model that throws dice for each token; None if it is not done in ``limit``
    tokens. Once in a while it looks for the end."""
    ids: list[int] = []
    while not cursor.done:
        if len(ids) > limit:
            return None
        forced = cursor.forced_tokens(ids) if jump else []
        if forced:
            cursor.advance_many(forced)
            ids += forced
            continue
        bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
        legal = np.flatnonzero(bits).tolist()
        assert legal
        if cursor.is_final and rng.random() < 0.5:
            break
        likely = [i for i in legal if tokenizer.token_bytes[i] in _CLOSING]
        token = rng.choice(likely if likely and rng.random() < 0.6 else legal)
        if token in tokenizer.eos_ids:
            break
        cursor.advance(token)
        ids.append(token)
    assert cursor.is_final
    return tokenizer.decode(ids)


_CLOSING = {b'"', b"}", b"]", b'"}', b'"]', b"1", b"0", b",", b", ", b"-"}
