"""Grammars as constraints: the same masks as our automata where the language is regular, the
same rules for jump-forward, and one clear error for whatever is no grammar."""

from __future__ import annotations

import gc
import json
import random
import threading
import weakref

import numpy as np
import pytest
from test_constraint_cursor import snapshot
from test_constraint_jump import PARTS, PROMPTS, VALUES, encode_after, follow
from test_json_schema import ADA, PERSON

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.tokenizer import Tokenizer

SUM = """
start: sum
sum: term (("+" | "-") term)*
term: NUMBER | "(" sum ")"
NUMBER: /[0-9]{1,3}/
"""
REGEXES = [
    r"[a-z]{1,6}(, [0-9]{2})*",
    r'"[^"\\\n]{0,12}"',
    r"(日本|日月|é|è)+x?",
    r"[^a]{2}b",
    r"(?s:.){0,4}",
    r"\n\n *a",
]


def legal(cursor) -> list[int]:
    bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
    return np.flatnonzero(bits).tolist()


def test_masks_are_those_of_the_automaton(tokenizer):
    """Bit for bit, on the way of random texts: also that no special token and no byte twin is
    legal, and that all ids that end the text are, where it may end."""
    rng = random.Random(1)
    for regex in REGEXES:
        ours = compile_constraint(regex=regex, tokenizer=tokenizer)
        theirs = compile_constraint(grammar=f"start: /{regex}/", tokenizer=tokenizer)
        for _ in range(4):
            a, b = ours.start(), theirs.start()
            for _ in range(8):
                if rng.random() < 0.5:  # it is all the same what was asked first
                    b.forced_tokens([])
                assert np.array_equal(a.allowed(), b.allowed())
                assert a.allowed().dtype == b.allowed().dtype
                assert not b.allowed().flags.writeable
                assert (a.allowed_count, a.is_final, a.done) == (
                    b.allowed_count,
                    b.is_final,
                    b.done,
                )
                assert a.forced() == b.forced()
                if a.done:
                    break
                token = rng.choice(legal(a))
                a.advance(token)
                b.advance(token)


def test_wide_logits_and_every_end(tiny):
    wide = Tokenizer(tiny.hf, vocab_size=tiny.vocab_size + 77, eos_ids=(0, 1))
    cursor = compile_constraint(grammar="start: /a+/", tokenizer=wide).start()
    assert len(cursor.allowed()) == -(-wide.vocab_size // 32)
    assert not set(legal(cursor)) & wide.eos_ids
    cursor.advance_many(wide.encode_plain("a"))
    ends = [i for i in legal(cursor) if wide.token_bytes[i] is None]
    assert ends == sorted(wide.eos_ids) == [0, 1, 2]
    assert max(legal(cursor)) < tiny.vocab_size
    for end in ends:
        other = cursor.copy()
        other.advance(end)
        assert (other.done, legal(other), other.forced_tokens([])) == (True, ends, [])


def test_a_tokenizer_without_an_end(tiny):
    class NoEnd(Tokenizer):
        """Its texts are ended by their length."""

        def __init__(self, hf):
            super().__init__(hf, vocab_size=8190)
            self.eos_ids = frozenset()

    cursor = compile_constraint(grammar="start: /a*/", tokenizer=NoEnd(tiny.hf)).start()
    assert legal(cursor) == [i for i in legal(cursor) if set(tiny.token_bytes[i]) == {97}]
    assert cursor.is_final


def test_special_tokens_only_by_name(tiny):
    special, name = 1, tiny.pieces[1]
    assert tiny.token_bytes[special] is None
    text = compile_constraint(grammar=f"start: {json.dumps(name)}", tokenizer=tiny)
    assert text.accepts(name)
    assert special not in legal(text.start())
    named = compile_constraint(grammar=f'start: "a" {name} "b"', tokenizer=tiny).start()
    assert named.forced_tokens([])[:2] == [*tiny.encode_plain("a"), special]
    assert named.forced() == "a"
    named.advance_many(named.forced_tokens([]))
    assert named.done


@pytest.mark.parametrize("source", [{"json_schema": PERSON}, {"grammar": SUM}, {"type": list[str]}])
def test_rollback_and_copy_are_exact(tiny, source):
    rng = random.Random(3)
    constraint = compile_constraint(**source, tokenizer=tiny)
    cursor = constraint.start()
    trail = [snapshot(cursor)]
    for _ in range(250):
        twin = cursor.copy()
        if rng.random() < 0.4 or cursor.done:
            n = rng.randint(0, len(trail) - 1)
            cursor.rollback(n)
            trail = trail[: len(trail) - n]
        else:
            before = twin.allowed()
            cursor.advance(rng.choice(legal(cursor)))
            trail.append(snapshot(cursor))
            assert snapshot(twin) == trail[-2]
            assert np.array_equal(before, twin.allowed())
        assert snapshot(cursor) == trail[-1]
    cursor.rollback(len(trail) - 1)
    assert snapshot(cursor) == snapshot(constraint.start())
    for n in (1, -1):
        with pytest.raises(ValueError, match="rollback"):
            cursor.rollback(n)


def test_a_wrong_token_does_not_move_the_cursor(tiny):
    cursor = compile_constraint(grammar=SUM, tokenizer=tiny).start()
    before = snapshot(cursor)
    for token in (*tiny.eos_ids, 0, -1, tiny.vocab_size, *tiny.encode_plain("x")):
        with pytest.raises(ConstraintError, match="not allowed"):
            cursor.advance(token)
        assert not cursor.allows(token)
    with pytest.raises(ConstraintError):
        cursor.advance_many([*tiny.encode_plain("(1"), *tiny.encode_plain("x")])
    assert snapshot(cursor) == before
    bits = set(legal(cursor))
    assert [i for i in range(tiny.vocab_size) if cursor.allows(i)] == sorted(bits)


# -- jump-forward: the rule of jump.py ------------------------------------------------------


def test_a_record_is_followed_in_canonical_tokens(tokenizer):
    constraint = compile_constraint(json_schema=PERSON, tokenizer=tokenizer)
    for prompt in PROMPTS:
        pair = encode_after(tokenizer, prompt, ADA)
        if pair is not None:
            assert follow(constraint, *pair) >= len(pair[1]) / 5


def test_templates_stay_canonical(tokenizer):
    rng = random.Random(11)
    written = forced = 0
    for _ in range(25):
        lark, text = "start: ALL\nALL:", ""
        for _ in range(rng.randint(1, 4)):
            literal = "".join(rng.choices(PARTS, k=rng.randint(1, 3)))
            value, samples = rng.choice(VALUES)
            value = value.replace("\\d", "[0-9]")
            lark += f" {json.dumps(literal, ensure_ascii=False)} /{value}/"
            text += literal + rng.choice(samples)
        pair = encode_after(tokenizer, rng.choice(PROMPTS), text)
        if pair is not None:
            constraint = compile_constraint(grammar=lark, tokenizer=tokenizer)
            forced += follow(constraint, *pair)
            written += len(pair[1])
    assert forced > written / 8


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_wholly_forced_text_is_canonical(tokenizer, prompt):
    rng = random.Random(prompt)
    for _ in range(6):
        text = "".join(rng.choices(PARTS, k=rng.randint(1, 8)))
        pair = encode_after(tokenizer, prompt, text)
        source = f"start: {json.dumps(text, ensure_ascii=False)}"
        cursor = compile_constraint(grammar=source, tokenizer=tokenizer).start()
        assert cursor.forced() == text
        if pair is not None:
            tokens = cursor.forced_tokens(pair[0])
            assert tokens == pair[1][: len(tokens)]
            assert len(tokens) >= len(pair[1]) - 1


def test_never_past_a_legal_end_nor_inside_a_character(tokenizer):
    def start(source):
        return compile_constraint(grammar=f"start: {source}", tokenizer=tokenizer).start()

    assert start('"abc" "def"?').forced() == "abc"
    cursor = start('"caf" ("é" | "è")')
    assert cursor.forced() == "caf"
    assert "caf".startswith(tokenizer.to_bytes(cursor.forced_tokens([])).decode())
    cursor = start('("日" | "旦") "x"')
    inside = [i for i in legal(cursor) if tokenizer.token_bytes[i] == b"\xe6"]
    if inside:
        cursor.advance(inside[0])
        assert (cursor.forced(), cursor.forced_tokens([]), cursor.is_final) == ("", [], False)


# -- what is no grammar ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"grammar": ""}, "grammar: it is empty; write start"),
        ({"grammar": 3}, "grammar: expected a string, got int"),
        ({"grammar": "hello world"}, r"grammar: Expected token ':'.*\(line 1\)"),
        ({"grammar": 'a: "x"'}, "grammar: no start rule found"),
        ({"grammar": 'start: "x"\n  | foo'}, r'grammar: unknown name: "foo"'),
        ({"grammar": "start: /[/"}, "grammar: invalid regex.*unclosed character class"),
        ({"grammar": "start: /(?=a)b/"}, "grammar: invalid regex.*look-around"),
        ({"grammar": "start: a\na: b\nb: a"}, "grammar: no text can satisfy it"),
        ({"grammar": 'start: a "x"\na: a "y"'}, "grammar: no text can satisfy it"),
        ({"grammar": 'start: "x" start'}, "grammar: its texts have no end"),
        ({"grammar": "start: <|nope|>"}, "grammar: unknown special token"),
        ({"grammar": "root ::= x"}, "grammar: Rule 'x' not found"),
        ({"ebnf": 'start: "x"'}, "ebnf: it has no rule; write root ::="),
        ({"ebnf": 'foo ::= "x"'}, "ebnf: No 'root' rule found"),
        ({"ebnf": 'root ::= "x'}, "ebnf: Unexpected end of input"),
        ({"ebnf": 'root ::= "\\'}, "ebnf: it ends inside an escape"),
    ],
)
def test_mistakes_are_named(tiny, source, message):
    for _ in range(2):  # the second time from the cache
        with pytest.raises(ConstraintError, match=message) as caught:
            compile_constraint(**source, tokenizer=tiny)
        assert "\n" not in str(caught.value)


def test_left_recursion_is_no_mistake(tiny):
    constraint = compile_constraint(
        grammar='start: start "," ITEM | ITEM\nITEM: "a"', tokenizer=tiny
    )
    assert constraint.accepts("a,a,a")
    assert not constraint.accepts("a,")


def test_ebnf_as_llama_cpp_and_sglang_write_it(tiny):
    source = r"""
    # a comment with "quotes" and | bars
    root ::= "<" tag-name ">" body   # the start
           | "none"                  # or nothing
    tag-name ::= [a-z]+ ("-" [0-9]){0,2}
    body ::= ( [^<#"\n] | "#" | "\"" )*
    """
    constraint = compile_constraint(ebnf=source, tokenizer=tiny)
    assert constraint is compile_constraint(ebnf=source, tokenizer=tiny)
    for text in ("none", "<p>", "<ab-1-2>x # y", '<a>"q"'):
        assert constraint.accepts(text)
    for text in ("non", "<>", "<a-1-2-3>x", "<a>\n"):
        assert not constraint.accepts(text)
    assert compile_constraint(grammar=source, tokenizer=tiny).accepts("none")


def test_a_schema_inside_a_grammar(tiny):
    source = 'start: "call(" args ")"\nargs: %json {"type": "array", "items": {"type": "integer"}}'
    assert compile_constraint(grammar=source, tokenizer=tiny).accepts("call([1,2])")


# -- sharing --------------------------------------------------------------------------------


def test_compiled_once_for_all_threads(tiny):
    tokenizer, got = Tokenizer(tiny.hf), []
    ready = threading.Barrier(6)

    def work():
        ready.wait()
        constraint = compile_constraint(json_schema=PERSON, tokenizer=tokenizer)
        assert constraint.accepts(ADA)
        got.append(constraint)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert len(set(map(id, got))) == 1
    assert got[0].compile_ms > 0


def test_a_tokenizer_goes_with_what_was_compiled_for_it(tiny):
    tokenizer = Tokenizer(tiny.hf)
    constraint = compile_constraint(grammar=SUM, tokenizer=tokenizer)
    gone = weakref.ref(tokenizer)
    cursor = constraint.start()
    del tokenizer, constraint
    assert cursor.forced_tokens([]) == []
    del cursor
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("source", "least"),
    [
        ({"regex": "a{200}"}, 5),
        ({"regex": "a*"}, 0),
        ({"choices": ["x" * 100, "yes"]}, 1),
        ({"grammar": 'start: "a"{100} | "a"{100} "b"'}, 1),
        ({"type": bool}, 0),
    ],
)
def test_the_least_number_of_tokens_is_a_lower_bound(tiny, source, least):
    constraint = compile_constraint(**source, tokenizer=tiny)
    assert constraint.min_tokens >= least
    if "regex" in source and constraint.min_tokens:
        assert constraint.min_tokens <= len(tiny.encode_plain("a" * 200))
