"""The whole of JSON Schema on finished texts, by the jsonschema library.

It is imported when it is first needed: that takes longer than the rest of this package. A schema
that is all enforced while its text is written does not need it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.schema_look import is_surely_schema
from sglnb.runtime.constraints.schema_walk import json_path

_DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def check_schema(schema: Any) -> None:
    """Raise ConstraintError if ``schema`` is no JSON Schema."""
    if is_surely_schema(schema):
        return
    from jsonschema import Draft7Validator, Draft202012Validator
    from jsonschema.exceptions import SchemaError, best_match

    if not isinstance(schema, (dict, bool)):
        raise ConstraintError(f"a schema is a JSON object, got {type(schema).__name__}")
    dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if not isinstance(dialect, str):
        raise ConstraintError(f"no JSON Schema at $.$schema: {dialect!r:.100} is no string")
    kind = _validator_class(schema)
    try:
        if kind is Draft202012Validator:
            error = best_match(_flat_meta_schema().iter_errors(schema))
            if error is not None:
                raise SchemaError.create_from(error)
        else:
            kind.check_schema(schema)
    except SchemaError as error:
        where = json_path(tuple(map(str, error.absolute_path)))
        why = f"no JSON Schema at {where}: {error.message[:300]}"
        if not dialect and Draft7Validator(Draft7Validator.META_SCHEMA).is_valid(schema):
            why += f'; it is one of draft 7, which "$schema": "{_DRAFT_7}" says'
        raise ConstraintError(why) from None


@lru_cache(maxsize=1)
def _flat_meta_schema() -> Any:
    """A validator of schemas of draft 2020-12, five times as fast as the library's: its meta-schema
    is seven, which are all looked at for each part of a schema. Here they are one."""
    from jsonschema import Draft202012Validator
    from jsonschema_specifications import REGISTRY

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(v) for v in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("$dynamicRef"), str):
            return {"$ref": "#"}
        out = {k: plain(v) for k, v in value.items()}
        if isinstance(value.get("$ref"), str):
            out["$ref"] = "#" + value["$ref"].partition("#")[2]
        return out

    meta = Draft202012Validator.META_SCHEMA
    flat = {"type": meta["type"], "properties": dict(meta["properties"]), "$defs": {}}
    for one in meta["allOf"]:
        part = REGISTRY.contents(f"https://json-schema.org/draft/2020-12/{one['$ref']}")
        for key in ("properties", "$defs"):
            flat[key] |= part.get(key, {})
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(plain(flat), format_checker=checker)


def check_text(source: str, text: str) -> None:
    """Raise ConstraintError if ``text`` is no JSON or breaks the schema ``source`` (as JSON)."""
    from jsonschema.exceptions import best_match

    try:
        instance = json.loads(text)
    except ValueError as error:
        raise ConstraintError(f"the text is no JSON ({error}): {text[:200]!r}") from None
    try:
        error = best_match(validator_of(source).iter_errors(instance))
    except re.error as wrong:
        raise ConstraintError(f"the schema has a pattern that is no regex: {wrong}") from None
    if error is not None:
        where = json_path(tuple(map(str, error.absolute_path)))
        raise ConstraintError(
            f"the text breaks its schema at {where}: {error.message[:300]} "
            f"({error.validator} could not be enforced while it was written)"
        )


@lru_cache(maxsize=128)
def validator_of(source: str) -> Any:
    """What :func:`check_text` judges by; the first one takes long."""
    from jsonschema import Draft7Validator
    from jsonschema.validators import extend

    schema = json.loads(source)
    kind = _validator_class(schema)
    if "dependencies" not in kind.VALIDATORS:  # older than the draft, and known to all the same
        kind = extend(kind, {"dependencies": Draft7Validator.VALIDATORS["dependencies"]})
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def _validator_class(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)
