"""The engine writes schemas, types and grammars: in a batch, streamed, with jump-forward."""

from __future__ import annotations

import json
import threading
from datetime import date
from typing import Literal

import jsonschema
import pytest
from test_json_schema import PERSON

from sglnb.errors import ConstraintError

PAIR = {
    "type": "object",
    "properties": {"first": {"const": "alpha"}, "second": {"const": [1, "two", None]}},
    "required": ["first", "second"],
    "additionalProperties": False,
}
SOURCES = [
    {"json_schema": PERSON},
    {"json_schema": json.dumps(PERSON), "whitespace": "compact"},
    {"type": list[Literal["x", "yy"]]},
    {"type": date},
    {"type": dict[Literal["k"], bool]},
    {"grammar": 'start: "a"{2,5} (" b" | " c")'},
    {"ebnf": 'root ::= "<" [a-c]{1,4} ">"'},
    {"regex": r"\d{2}-\d{2}"},
]


@pytest.mark.parametrize("temperature", [0, 1])
def test_eight_kinds_in_one_batch(engine, temperature):
    params = [
        {**source, "max_new_tokens": 120, "temperature": temperature, "seed": i}
        for i, source in enumerate(SOURCES)
    ]
    results = engine.generate([f"Number {i}: " for i in range(len(SOURCES))], params)
    engine.check()
    texts = [result["text"] for result in results]
    for text in texts[:2]:
        jsonschema.validate(json.loads(text), PERSON)
    assert ", " not in texts[1].replace(json.loads(texts[1])["name"], "")
    assert set(json.loads(texts[2])) <= {"x", "yy"}
    date.fromisoformat(json.loads(texts[3]))
    assert all(isinstance(v, bool) for v in json.loads(texts[4]).values())
    assert texts[5].lstrip("a") in (" b", " c")
    assert texts[6].strip("<abc>") == ""
    assert all(r["meta_info"]["finish_reason"]["type"] == "stop" for r in results)


def test_jump_forward_changes_no_forced_text(engine):
    texts, forced = [], []
    for jump in (True, False):
        for source in ({"json_schema": PAIR}, {"grammar": 'start: "Certain: " "one, two."'}):
            params = {**source, "jump_forward": jump, "temperature": 0, "max_new_tokens": 60}
            result = engine.generate("Write: ", params)
            texts.append(result["text"])
            forced.append(result["meta_info"]["forced_tokens"])
    assert texts[:2] == texts[2:] == [json.dumps(json.loads(texts[0])), "Certain: one, two."]
    assert json.loads(texts[0]) == {"first": "alpha", "second": [1, "two", None]}
    assert forced[0] > 5
    assert forced[1] > 0
    assert forced[2:] == [0, 0]
    engine.check()


def test_forced_tokens_are_told(engine):
    seen = engine.events.next_seq
    engine.generate("Write: ", {"json_schema": PAIR, "max_new_tokens": 60})
    tokens = [e for e in engine.events.since(seen) if e.kind == "tokens"]
    assert {e.how for e in tokens} >= {"forced"}
    assert all(e.fsm_before is None and e.fsm_after is None for e in tokens)
    (built,) = [e for e in engine.events.since(seen) if e.kind == "constraint_compiled"] or [None]
    assert built is None or (built.states, built.compressed_states) == (None, None)


def test_streamed(engine):
    params = {"json_schema": PERSON, "max_new_tokens": 120, "temperature": 0}
    whole = engine.generate("A person: ", params)["text"]
    pieces = [chunk["text"] for chunk in engine.generate("A person: ", params, stream=True)]
    assert pieces[-1] == whole
    assert all(whole.startswith(piece) for piece in pieces)
    engine.check()


def test_lenient_is_checked_when_the_text_is_done(engine):
    twice = {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}
    params = {"json_schema": twice | {"uniqueItems": True}, "lenient": True}
    for stream in (False, True):
        with pytest.raises(ConstraintError, match=r"non-unique.*uniqueItems could not be"):
            list(engine.generate("x", params, stream=stream))
    with pytest.raises(ConstraintError, match=r"uniqueItems at \$ cannot be enforced"):
        engine.generate("x", params | {"lenient": False})
    request = engine.submit("x", params)
    request.wait()
    assert (request.text, request.error) == ("[1, 1]", None)
    cut = engine.generate("x", params | {"max_new_tokens": 1, "on_budget": "cut"})
    assert cut["meta_info"]["finish_reason"]["type"] == "length"
    engine.check()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"regex": "a", "type": int}, "regex and type: give only one"),
        ({"json_schema": {}, "grammar": 'start: "a"'}, "json_schema and grammar: give only one"),
        ({"regex": "a", "lenient": True}, "lenient: goes with json_schema or type"),
        ({"type": print}, "type: .*print.* has no JSON"),
        ({"regex": "[ab]{500}", "max_new_tokens": 5}, "regex: every text .* at least .* tokens"),
        ({"choices": ["x" * 400], "max_new_tokens": 2}, "choices: every text .*max_new_tokens=2"),
        ({"grammar": f'start: "{"xyz" * 99}"', "max_new_tokens": 2}, "grammar: every text"),
    ],
)
def test_mistakes_are_told_before_anything_runs(engine, params, message):
    seen = engine.events.next_seq
    with pytest.raises(ConstraintError, match=message):
        engine.submit("x", params)
    assert [e.kind for e in engine.events.since(seen) if e.kind == "request_arrived"] == []


def test_what_could_fit_is_not_refused(engine):
    longest = max(filter(None, engine.tokenizer.token_bytes), key=len).decode()
    for params in (
        {"choices": [longest, longest * 3], "max_new_tokens": 1},
        {"regex": "[ab]{500}", "stop": "b", "max_new_tokens": 5},
        {"regex": "[ab]{500}", "max_new_tokens": 0},
    ):
        engine.generate("x", params)
    engine.check()


def test_nothing_is_compiled_on_the_engines_thread(engine, monkeypatch):
    from sglnb.runtime.constraints import llg

    threads = []
    init = llg.LLGConstraint.__init__

    def record(self, *args, **kwargs):
        threads.append(threading.current_thread())
        init(self, *args, **kwargs)

    monkeypatch.setattr(llg.LLGConstraint, "__init__", record)
    engine.generate("x", {"type": tuple[Literal["only", "here"], bool], "max_new_tokens": 20})
    (thread,) = threads
    assert thread.name.startswith("sglnb-compile")
