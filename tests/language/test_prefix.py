"""The constant prefix of a program in the backend's cache."""

from __future__ import annotations

import pytest
from traced_programs import by_character

import sglnb.language as sgl
from sglnb.errors import ContextLengthError
from sglnb.testing import ScriptedBackend

RULES = "You answer questions about the sea, the wind and the moon, in one short line. " * 2


@sgl.function
def qa(s, question):
    s += sgl.system(RULES)
    s += sgl.user("Question: " + question)
    s += sgl.assistant(sgl.gen("answer", max_tokens=4))


@pytest.fixture
def fresh(engine):
    """The engine with an empty cache."""
    engine.cache.flush()
    yield engine
    engine.check()


def counted(engine, run):
    """(prompt tokens computed, prompt tokens of the cache) by ``run``."""
    before = engine.metrics()
    run()
    after = engine.metrics()
    return {k: after[k] - before[k] for k in after if isinstance(after[k], int)}


@pytest.fixture
def backend() -> ScriptedBackend:
    return by_character()


def test_cache_computes_the_prefix_once(fresh):
    prefix = qa.trace(backend=fresh).prefix
    tokens = qa.cache(fresh)
    assert tokens == len(fresh.tokenizer.encode(prefix)) > 30
    assert fresh.cache.match(prefix).cached == tokens
    state = qa.run("Why is it wet?", backend=fresh)
    state.sync()
    assert state.get_meta_info("answer")["cached_tokens"] >= tokens - 1


def test_cache_of_a_program_without_a_prefix_asks_nothing(backend):
    @sgl.function
    def bare(s, q):
        s += q + sgl.gen("x")

    assert bare.cache(backend) == 0
    assert backend.calls == []
    assert bare.bind(q="abc").cache(backend) == 3
    assert [(c.prompt, c.params, c.purpose) for c in backend.calls] == [
        ("abc", {"max_new_tokens": 0}, "prefill")
    ]


def test_cache_tells_what_is_wrong(fresh):
    @sgl.function
    def long(s):
        s += "word " * 20_000 + sgl.gen("x")

    with pytest.raises(ContextLengthError):
        long.cache(fresh)


def test_the_body_runs_only_to_its_first_argument(backend):
    seen = []

    @sgl.function
    def program(s, q):
        seen.append("start")
        s += "abc"
        s += q
        seen.append("never")

    assert program.cache(backend) == 3
    assert seen == ["start"]


def test_pin_keeps_the_prefix(fresh):
    tokens = qa.pin(fresh)
    prefix = qa.trace(backend=fresh).prefix
    fresh.cache.flush()
    assert fresh.cache.match(prefix).cached == tokens
    assert qa.pin(fresh) == tokens  # once more: still one pin
    qa.unpin(fresh)
    fresh.cache.flush()
    assert fresh.cache.match(prefix).cached == 0
    with pytest.raises(ValueError, match="unpin: qa has nothing pinned"):
        qa.unpin(fresh)


def test_pin_needs_an_engine_and_a_prefix(backend, fresh):
    with pytest.raises(TypeError, match=r"ScriptedBackend cannot keep a prefix.*sglnb\.Engine"):
        qa.pin(backend)

    @sgl.function
    def bare(s, q):
        s += q + sgl.gen("x")

    with pytest.raises(ValueError, match="bare has no constant prefix"):
        bare.pin(fresh)


# -- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 24])
def test_a_batch_computes_its_prefix_once(fresh, rows):
    questions = [f"{i}{i + 1} what of number {i}?" for i in range(rows)]
    tokens = len(fresh.tokenizer.encode(qa.trace(backend=fresh).prefix))
    box = []
    used = counted(
        fresh, lambda: box.extend(qa.run_batch([{"question": q} for q in questions], backend=fresh))
    )
    infos = [state.get_meta_info("answer") for state in box]
    assert min(info["cached_tokens"] for info in infos) >= tokens - 1  # the first one, too
    prompts = sum(info["prompt_tokens"] for info in infos)
    own = prompts - rows * (tokens - 1)
    assert used["prompt_tokens"] == prompts + tokens
    assert used["prompt_tokens"] - used["cached_tokens"] <= tokens + own


def sent(program, rows, **options):
    backend = by_character()
    program.run_batch(rows, backend=backend, **options)
    return backend.of("prefill")


def test_what_is_the_same_in_all_rows_belongs_to_the_prefix():
    @sgl.function
    def program(s, document, question):
        s += f"Document: {document}\n" + "Question: " + question + sgl.gen("x")

    document = "words " * 20
    rows = [{"document": document, "question": q} for q in ("a", "b")]
    (call,) = sent(program, rows)
    assert call.prompt == f"Document: {document}\nQuestion: "
    assert sent(program, [{**row, "document": row["question"] * 99} for row in rows]) == []


def test_what_is_not_worth_it_is_not_sent():
    @sgl.function
    def program(s, text, q="x"):
        s += text
        s += "?" + q
        s += sgl.gen("x")

    assert sent(program, [{"text": "t" * 20, "q": "a"}, {"text": "t" * 20, "q": "b"}]) == []
    assert sent(program, [{"text": "t" * 99}]) == []  # one row
    assert sent(program, []) == []
    (call,) = sent(program, [{"text": "t" * 99, "q": "a"}, {"text": "t" * 99, "q": "b"}])
    assert call.prompt == "t" * 99 + "?"


def test_a_body_that_fails_on_placeholders_loses_nothing():
    @sgl.function
    def program(s, q, stop=None):
        s += "t" * 99
        s += str(1 / len(q))

    states = program.run_batch([{"q": "ab"}, {"q": ""}, {"oops": 1}], backend=by_character())
    assert states[0].text() == "t" * 99 + "0.5"
    assert isinstance(states[1].error(), ZeroDivisionError)
    assert isinstance(states[2].error(), TypeError)


def test_an_adapters_batch_has_its_prefix_in_the_adapters_namespace():
    (call,) = sent(qa, [{"question": "a"}, {"question": "b"}], lora="poet")
    assert call.options["lora"] == "poet"
