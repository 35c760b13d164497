"""A compiled regex means what ``re.fullmatch`` means, or is refused by name."""

from __future__ import annotations

import random
import re
import time

import numpy as np
import pytest
import regex as unicode
from constraint_tools import regexes, sample, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.compiler import regex_dfa


@settings(max_examples=300, deadline=None)
@given(regexes, st.lists(texts, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_random_regexes_mean_fullmatch(regex: str, tried: list[str], rng: random.Random):
    pattern = re.compile(regex)
    try:
        dfa = regex_dfa(regex)
    except ConstraintError:  # nothing can match
        assert not any(map(pattern.fullmatch, tried))
        return
    for text in tried:
        assert dfa.matches(text) == bool(pattern.fullmatch(text)), text
    for _ in range(4):
        text = sample(dfa, rng)
        if text is not None:
            assert pattern.fullmatch(text), text


@pytest.mark.parametrize(
    "regex",
    [
        r"(?i)straße|ſ|K|ǆ|İ",
        r"(?i)[k-s]+|[^k]",
        r"(?i)[\u0390\u03b9]",
        r"(?ia)k",
        r"\s",
        r"(?a)\w",
        r"[^\w\s]",
        r"(?i)[^a-z]",
        r"(?i:k)|[^\W\d]",
    ],
)
def test_every_code_point(regex: str):
    pattern, dfa = re.compile(regex), regex_dfa(regex)
    codes = np.array([c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF])
    accepting = {c for c, target in dfa.rows[0].items() if target in dfa.final}
    got = np.isin(dfa.alphabet.classify(codes), list(accepting))
    want = np.array([pattern.fullmatch(chr(code)) is not None for code in codes.tolist()])
    assert codes[got != want].tolist() == []


@pytest.mark.parametrize(
    ("regex", "yes", "no"),
    [
        ("^abc$", ["abc"], ["", "abc\n"]),
        (r"\Aabc\Z", ["abc"], ["xabc"]),
        ("(?:^a|^b)c", ["ac", "bc"], ["c"]),
        ("(^a|b$)", ["a", "b"], ["ab"]),
        ("(?x) a  b # comment", ["ab"], ["a b"]),
        ("(?P<year>[0-9]{4})", ["2024"], ["24"]),
        ("a|ab", ["a", "ab"], ["b"]),
        ("[a-z0-9]([-a-z0-9]*[a-z0-9])?", ["a", "a-b", "ab"], ["-a", "a-"]),
        ("", [""], ["a"]),
        ("a{0}b", ["b"], ["ab"]),
        ("(?:){1000}a", ["a"], [""]),
        ("a(?#a comment)b", ["ab"], ["a"]),
        (r"\x41\u00e9\N{SNOWMAN}", ["Aé☃"], ["A"]),
    ],
)
def test_syntax(regex: str, yes: list[str], no: list[str]):
    dfa = regex_dfa(regex)
    for text in [*yes, *no]:
        assert dfa.matches(text) == (text in yes) == bool(re.fullmatch(regex, text)), text


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"\p{Lu}\p{Ll}+", ["Ab", "Éé", "Ωμέγα"], ["ab", "A1"]),
        (r"\pL+", ["aб日"], ["1", " "]),
        (r"[\p{Greek}_]{2}", ["α_"], ["a_", "α "]),
        (r"[^\p{L}\s]+", ["12!"], ["a", " "]),
        (r"\P{L}", ["1"], ["a"]),
        (r"\p{^L}", ["1"], ["a"]),
        (r"(?i)\p{Lu}", ["A", "a", "ß"], ["1"]),
        (r"(?i:[\p{Han}k])", ["日", "K", "\u212a"], ["a"]),
        (r"\\p\{L\}", ["\\p{L}"], ["L"]),
    ],
)
def test_properties(pattern: str, yes: list[str], no: list[str]):
    dfa = regex_dfa(pattern)
    for text in [*yes, *no]:
        assert dfa.matches(text) == (text in yes) == bool(unicode.fullmatch(pattern, text)), text


@pytest.mark.parametrize("pattern", [r"\p{Cyrillic}", r"[\p{Nd}\p{Lt}]", r"[^\P{Sc}]"])
def test_properties_of_every_code_point(pattern: str):
    dfa = regex_dfa(pattern)
    for code in (*range(0xD800), *range(0xE000, 0x20000, 3)):
        assert dfa.matches(chr(code)) == bool(unicode.fullmatch(pattern, chr(code))), hex(code)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"a\p{Foo}", r"unknown property \\p\{Foo\} at position 1"),
        (r"\p{L}(", "missing .*at position 5"),
        (r"\p{L}\p{Greek}*(?=a)", "lookaround at position 15"),
        (r"[a-\p{L}]", r"bad character range a-\\p\{L\}"),
    ],
)
def test_properties_keep_the_places_of_errors(pattern: str, message: str):
    with pytest.raises(ConstraintError, match=message):
        regex_dfa(pattern)


@pytest.mark.parametrize(
    ("regex", "name", "position"),
    [
        ("ab(?=c)", "lookaround", 2),
        ("ab(?!c)", "negative lookaround", 2),
        ("(?<=c)ab", "lookaround", 0),
        ("(?<!c)ab", "negative lookaround", 0),
        (r"[\1(?=](a)\1", "backreference", 10),
        ("(?P<n>a)(?P=n)", "backreference", 8),
        ("(a)?(?(1)b|c)", "conditional", 4),
        ("a++b", "possessive", 1),
        ("xa{1,2}+", "possessive", 2),
        ("(?>ab)", "atomic", 0),
        (r"a\b", "word boundary", 1),
        (r"a\Bb", r"\B", 1),
        ("a^b", "^ in mid-pattern", 1),
        ("[$]a$b", "$ in mid-pattern", 4),
        (r"(?:a$)*", "$ in mid-pattern", 4),
        (r"a\Zb", r"\Z in mid-pattern", 1),
        ("(?x) a # (?=\n (?=b)", "lookaround", 14),
    ],
)
def test_refused_features_are_named(regex: str, name: str, position: int):
    with pytest.raises(ConstraintError) as caught:
        regex_dfa(regex)
    message = str(caught.value)
    assert message.startswith("regex: ")
    assert name in message
    assert f"at position {position} " in message


@pytest.mark.parametrize(("regex", "position"), [("a(b", 1), ("[a", 0), ("a**", 2), ("(?Z)", 1)])
def test_a_bad_regex_says_where(regex: str, position: int):
    with pytest.raises(ConstraintError, match=f"position {position}"):
        regex_dfa(regex)


@pytest.mark.parametrize("regex", [r"[^\s\S]", "a[^\\w\\W]", "(?:[^\\d\\D]|[^\\d\\D]b)+"])
def test_a_regex_that_matches_nothing(regex: str):
    with pytest.raises(ConstraintError, match="no text at all"):
        regex_dfa(regex)


@pytest.mark.parametrize(
    ("regex", "states"),
    [
        ("a{0,5000}", 5001),
        ("(?:){1000000000}a", 2),
        ("(a*)*b", 2),
        ("(x+x+)+y", 4),
        ("(" * 200 + "a" + ")*" * 200, 1),
        ("(.*.*.*.*)*=(.*)", 2),
        ("(?:a?){200}" + "a" * 200, 401),
        (r"[\w ]{1,500}(,[\w ]{1,500}){4}", 2505),
        ("((a{1,10}){1,10}){1,10}", 1001),
    ],
)
def test_hard_regexes_compile_quickly(regex: str, states: int):
    started = time.process_time()
    assert len(regex_dfa(regex)) == states
    assert time.process_time() - started < 2  # usually well under 0.3


@pytest.mark.parametrize(
    "regex",
    [
        "(((a{1,10}){1,10}){1,10}){1,100}",
        "a{1000000}",
        "a{99999999999999999999}",
        "^" + "ab" * 200_000 + "$",
        "ab" * 49_000,
        "(" * 3000 + "a" + ")" * 3000,
    ],
)
def test_too_large_regexes_fail_quickly(regex: str):
    started = time.process_time()
    with pytest.raises(ConstraintError, match=r"spelled out|too large|nested too deeply"):
        regex_dfa(regex)
    assert time.process_time() - started < 3  # usually under 1


def test_minimal():
    """Different spellings of one language give one automaton."""
    for same in [("a|b|c", "[abc]", "[a-c]"), ("aa*", "a+"), ("(ab|cb)d", "[ac]bd")]:
        assert len({len(regex_dfa(regex)) for regex in same}) == 1
