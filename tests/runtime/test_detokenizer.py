"""Text that grows token by token: equal to the whole at the end, and never taken back."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sglnb.runtime.detokenizer import OutputText
from sglnb.runtime.tokenizer import Tokenizer

NAMES = ["gpt2", "llama2", "llama3", "qwen", "sgl-tiny"]
TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \n\taeinost.,:'"),
        st.characters(exclude_categories=["Cs", "Cc"]),
        st.sampled_from("日本語😀👩‍👩‍👧é\u0301🏳️‍🌈"),
    ),
    max_size=40,
)
ALIKE = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_loaded: dict[str, Tokenizer] = {}


@pytest.fixture(params=NAMES)
def tokenizer(request, shared_data, model_dir) -> Tokenizer:
    name = request.param
    if name not in _loaded:
        folder = model_dir if name == "sgl-tiny" else shared_data / "tokenizers" / name
        if (folder / "tokenizer_config.json").exists():
            _loaded[name] = Tokenizer.from_pretrained(folder)
        else:
            _loaded[name] = Tokenizer.from_file(folder / "tokenizer.json")
    return _loaded[name]


def whole(tokenizer: Tokenizer, ids: list[int], special: bool) -> str:
    """What the tokenizer's own library makes of all ids at once."""
    return tokenizer.hf.backend_tokenizer.decode(ids, skip_special_tokens=not special)


def stream(tokenizer: Tokenizer, ids: list[int], *, special: bool, fresh: bool) -> list[str]:
    out = OutputText(fresh=fresh)
    shown = []
    for i in ids:
        assert out.push(tokenizer.shown(i, special=special, first=out.fresh)) is None
        shown.append(out.text)
    out.finish()
    return [*shown, out.text]


def grows(shown: list[str]) -> bool:
    return all(b.startswith(a) for a, b in pairwise(shown))


def agrees(tokenizer: Tokenizer, got: str, want: str, raw: bytes) -> bool:
    """Where the bytes are no UTF-8, byte-fallback tokenizers give up on the whole run of bytes,
    good characters in it included, which is known only at its end. We show U+FFFD for what is
    broken and nothing else, as the byte-level ones do."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        if tokenizer._metaspace:
            return got == raw.decode(errors="replace").removeprefix(" ") or got == raw.decode(
                errors="replace"
            )
    return got == want


@ALIKE
@given(data=st.data(), special=st.booleans())
def test_random_ids(tokenizer, data, special):
    """Any ids, special tokens among them, as a text of its own."""
    size = len(tokenizer.hf)
    some = sorted(tokenizer._special - {i for i in tokenizer._special if i >= size})
    ids = data.draw(
        st.lists(
            st.integers(0, size - 1) | st.integers(0, 300) | st.sampled_from(some or [0]),
            max_size=30,
        )
    )
    shown = stream(tokenizer, ids, special=special, fresh=True)
    assert grows(shown)
    raw = tokenizer.to_bytes(ids, special=special)
    assert agrees(tokenizer, shown[-1], whole(tokenizer, ids, special), raw)


@ALIKE
@given(text=TEXTS, data=st.data())
def test_random_text_behind_a_prompt(tokenizer, text, data):
    """The text behind a prompt is the whole decoded, less the prompt decoded."""
    ids = tokenizer.encode(text)
    begins = next((n for n, i in enumerate(ids) if tokenizer.token_bytes[i] is not None), 0)
    cut = data.draw(st.integers(begins, len(ids)))
    prompt, rest = ids[:cut], ids[cut:]
    fresh = tokenizer.shows_nothing(prompt)
    shown = stream(tokenizer, rest, special=False, fresh=fresh)
    assert grows(shown)
    before = whole(tokenizer, prompt, False)
    if "\ufffd" not in before:  # otherwise the prompt ends inside a character
        assert before + shown[-1] == whole(tokenizer, ids, False)
    assert (
        not any("\ufffd" in part for part in shown[:-1])
        or "\ufffd" in text
        or before[-1:] == "\ufffd"
    )


def test_the_first_word_keeps_its_space_only_behind_a_prompt(shared_data):
    tokenizer = Tokenizer.from_pretrained(shared_data / "tokenizers" / "llama2")
    bos, *words = tokenizer.encode("Hello world")
    assert tokenizer.shows_nothing([bos])
    assert stream(tokenizer, words, special=False, fresh=True)[-1] == "Hello world"
    assert stream(tokenizer, words, special=False, fresh=False)[-1] == " Hello world"
    two = tokenizer.encode_plain("  two")  # its own spaces stay
    assert stream(tokenizer, two, special=False, fresh=True)[-1] == "  two"
    alone = tokenizer.encode_plain(" :")  # the dummy space is a token of its own here
    assert stream(tokenizer, alone, special=False, fresh=True) == ["", " :", " :"]


# -- what ends a text ----------------------------------------------------------------------

REGEXES = [r"\d+", r"a.*z", r"(foo|bar)baz", r"[.!?]\s", r"\n\n", r"x{3}|xy", r"é+ ", r"END"]


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.text("abfoxyzrEND012.! \né", max_size=4), max_size=25),
    regexes=st.lists(st.sampled_from(REGEXES), max_size=3, unique=True),
    stops=st.lists(st.sampled_from(["foo", "z", "ba", "ND", "x "]), max_size=2, unique=True),
    trim=st.booleans(),
)
def test_stops_against_a_search_of_the_whole(pieces, regexes, stops, trim):
    out = OutputText(tuple(stops), tuple(regexes), trim)
    so_far, shown = "", [""]
    for piece in pieces:
        hit = out.push(piece.encode())
        shown.append(out.text)
        end, start = first_end(so_far, piece, regexes, stops)
        so_far += piece
        assert (hit is None) == (end is None)
        if hit is not None:
            assert out.text == (so_far[:start] if trim else so_far[:end])
            assert hit in regexes or hit in stops
            break
    else:
        out.finish()
        assert out.text == so_far
    assert grows([*shown, out.text])


def first_end(before: str, piece: str, regexes: list[str], stops: list[str]):
    """(end, start) of what ends the text in ``piece``, by trying all places: a regex as soon as
    it matches; of several hits in one piece the one that starts first."""
    text, hits = before + piece, []
    for stop in stops:
        at = text.find(stop, max(0, len(before) - len(stop) + 1))
        hits += [(at, at + len(stop))] if at >= 0 else []
    for end in range(len(before) + 1, len(text) + 1):
        starts = [
            s for r in regexes for s in range(end) if re.fullmatch(r, text[s:end]) is not None
        ]
        if starts:
            hits.append((min(starts), end))
            break
    if not hits:
        return None, None
    start, end = min(hits)
    return end, start


def test_a_beginning_waits_and_is_shown_when_it_comes_to_nothing():
    out = OutputText(stop_regex=(r"<\w+>",))
    out.push(b"one <tw")
    assert out.text == "one "
    out.push(b"o three")
    assert out.text == "one <two three"
    out.push(b" <four")
    out.finish()
    assert out.text == "one <two three <four"


PROMPT = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("params", "text", "matched"),
    [
        ({"stop_regex": r"\b"}, None, None),
        ({"stop_regex": "[A-Z][a-z]+ is"}, "The capital of ", "[A-Z][a-z]+ is"),
        ({"stop_regex": ["zzz", " of I"]}, "The capital", " of I"),
        ({"stop_regex": "cap", "no_stop_trim": True}, "The cap", "cap"),
        ({"no_stop_trim": True}, "The capital of Italy is Rome.", 2),
        (
            {"no_stop_trim": True, "skip_special_tokens": False},
            "The capital of Italy is Rome.<|im_end|>",
            2,
        ),
        ({"skip_special_tokens": False}, "The capital of Italy is Rome.", 2),
    ],
)
def test_through_the_engine(engine, params, text, matched):
    params = {"temperature": 0, **params}
    if text is None:
        with pytest.raises(ValueError, match="stop_regex: "):
            engine.generate(PROMPT, params)
        return
    updates = list(engine.generate(PROMPT, params, stream=True))
    assert updates[-1]["text"] == text
    assert updates[-1]["meta_info"]["finish_reason"] == {"type": "stop", "matched": matched}
    assert grows([u["text"] for u in updates])


def test_special_tokens_in_the_middle(engine):
    params = {"temperature": 0, "logit_bias": {2: 1e4}, "ignore_eos": True, "max_new_tokens": 3}
    assert engine.generate(PROMPT, params)["text"] == ""
    shown = engine.generate(PROMPT, params | {"skip_special_tokens": False})["text"]
    assert shown == "<|im_end|>" * 3
