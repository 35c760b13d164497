"""Programs on the real engine with the embedded model."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

import sglnb.language as sgl
from sglnb.errors import ConstraintError, ContextLengthError, RequestAborted
from sglnb.language import BranchError, GenerationError

SHOTS = (
    "Review: I loved every minute of it.\nSentiment: positive\n\n"
    "Review: The food was cold and the waiter was rude.\nSentiment: negative\n\n"
)


@sgl.function
def qa(s, question):
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("answer", max_tokens=24))


@sgl.function
def sentiment(s, review, method="token_length_normalized"):
    s += SHOTS
    s += f"Review: {review}\nSentiment:"
    s += sgl.select("label", [" positive", " negative"], choices_method=method)


def test_a_chat_that_goes_on_after_run(engine):
    state = qa.run("What is the capital of Italy?", backend=engine, temperature=0)
    assert state["answer"] == "The capital of Italy is Rome."
    assert state.text() == engine.tokenizer.render_chat(state.messages(), generation_prompt=False)
    info = state.get_meta_info("answer")
    assert info["finish_reason"]["type"] == "stop"
    assert info["prompt_tokens"] > 0 < info["completion_tokens"]
    state += sgl.user("Sort this list: pear, apple, banana")
    state += sgl.assistant(sgl.gen("sorted", max_tokens=24))
    assert state["sorted"].startswith("apple, banana")
    assert state.get_meta_info("sorted")["cached_tokens"] >= info["prompt_tokens"]
    assert [m["role"] for m in state.messages()] == ["user", "assistant"] * 2


def test_the_program_writes_what_the_engine_does(engine):
    prompt = "The sea was calm and the"
    s = sgl.start_state(engine, defaults={"temperature": 0})
    s += prompt + sgl.gen("x", max_tokens=12, stop=[".", "\n"])
    params = {"temperature": 0, "max_new_tokens": 12, "stop": [".", "\n"]}
    assert s["x"] == engine.generate(prompt, params)["text"]
    sgl.finish_run(s)


@pytest.mark.parametrize(
    "method",
    ["token_length_normalized", "greedy_token_selection", "unconditional_likelihood_normalized"],
)
def test_select(engine, method):
    for review, label in [
        ("A wonderful, warm place.", " positive"),
        ("Terrible, slow and dirty.", " negative"),
    ]:
        state = sentiment.run(review, method, backend=engine)
        assert state["label"] == label
        assert state.text().endswith("Sentiment:" + label)


def test_select_scores_are_the_models_own(engine):
    state = sentiment.run("A wonderful place.", backend=engine)
    info = state.get_meta_info("label")
    text = state.text().removesuffix(state["label"])
    for choice, mean, tokens in zip(
        [" positive", " negative"],
        info["normalized_prompt_logprobs"],
        info["input_token_logprobs"],
        strict=True,
    ):
        ids = engine.tokenizer.encode(text + choice)
        start = len(ids) - len(tokens)
        alone = engine.generate(
            ids, {"max_new_tokens": 0}, return_logprob=True, logprob_start_len=start
        )["meta_info"]["input_token_logprobs"]
        assert [t[1] for t in tokens] == ids[start:]
        assert [t[0] for t in tokens] == pytest.approx([t[0] for t in alone], abs=1e-4)
        assert mean == pytest.approx(sum(t[0] for t in alone) / len(alone), abs=1e-4)
        assert "".join(t[2] for t in tokens).endswith(choice.strip())
    assert info["cached_tokens"] > 0


def test_select_of_many_token_choices(engine):
    s = sgl.start_state(engine)
    s += sgl.user("What is the capital of Italy?") + sgl.assistant_begin()
    s += sgl.select("x", ["The capital of Italy is Paris.", "The capital of Italy is Rome."])
    assert s["x"] == "The capital of Italy is Rome."
    s += sgl.assistant_end()
    sgl.finish_run(s)


@pytest.mark.parametrize(
    ("dtype", "pattern"),
    [(int, r"[-+]?[0-9]+"), (float, r"[-+]?[0-9]*\.?[0-9]+"), (bool, r"True|False")],
)
def test_dtypes(engine, dtype, pattern):
    s = sgl.start_state(engine, defaults={"seed": 3})
    s += "The answer is " + sgl.gen("x", dtype=dtype, max_tokens=8)
    assert re.fullmatch(pattern, s["x"])
    assert isinstance(s["x"], str)
    sgl.finish_run(s)


def test_gen_int_and_string(engine):
    s = sgl.start_state(engine, defaults={"temperature": 0})
    s += "Seven and fifteen make " + sgl.gen_int("n", max_tokens=4)
    s += ". Her name was " + sgl.gen_string("name", max_tokens=40)
    assert s["n"].isdigit()
    assert re.match(r'"[\w\s]*', s["name"])
    sgl.finish_run(s)


def test_regex(engine):
    s = sgl.start_state(engine, defaults={"temperature": 0})
    s += sgl.user("My name is Maria Lopez, I am 34 years old and I live in Lisbon.")
    pattern = r'\{"name": "[A-Za-z ]{1,20}", "age": [0-9]{1,3}\}'
    s += sgl.assistant(sgl.gen("record", regex=pattern, max_tokens=48))
    assert re.fullmatch(pattern, s["record"])
    assert s.get_meta_info("record")["forced_tokens"] > 0
    sgl.finish_run(s)


def test_logprobs(engine):
    s = sgl.start_state(engine)
    s += "One two" + sgl.gen("x", max_tokens=3, return_logprob=True, top_logprobs_num=2)
    info = s.get_meta_info("x")
    assert len(info["output_token_logprobs"]) == info["completion_tokens"]
    assert len(info["output_top_logprobs"][0]) == 2
    sgl.finish_run(s)


def test_forks_share_the_prefix(engine):
    engine.cache.flush()

    @sgl.function
    def tips(s):
        s += sgl.system("You are a helpful assistant. " * 8)
        s += sgl.user("What is the capital of Italy?")
        group = s.fork(3)
        group += lambda i: sgl.assistant(f"{i}. " + sgl.gen("tip", max_tokens=8))
        group.join()

    state = tips.run(backend=engine, temperature=0)
    assert len(state["tip"]) == 3
    infos = state.get_meta_info("tip")
    shared = len(engine.tokenizer.encode(state.text()))
    assert all(info["cached_tokens"] >= shared - 2 for info in infos)
    hints = [e for e in engine.events if e.kind == "request_arrived" and e.run == state.run_id]
    assert [e.purpose for e in hints] == ["prefill", "gen", "gen", "gen"]


def test_branches_one_by_one_and_together_agree(engine):
    @sgl.function
    def program(s, together):
        s += "Once upon a time"
        group = s.fork(4)
        for i, branch in enumerate(group):
            branch += (
                f" in year {i}" + sgl.gen("a", max_tokens=6) + "; then" + sgl.gen(max_tokens=5)
            )
            if not together:
                branch.sync()
        group.join("concate_and_append")
        s += sgl.gen("end", max_tokens=4)

    texts = {program.run(t, backend=engine, temperature=0).text() for t in (False, True)}
    assert len(texts) == 1


def test_streaming(engine):
    state = qa.run("What is the capital of Italy?", backend=engine, temperature=0, stream=True)
    pieces = list(state.text_iter("answer"))
    assert "".join(pieces) == state["answer"] == "The capital of Italy is Rome."
    assert len(pieces) > 1
    assert "".join(state.text_iter()) == state.text()


def test_batch_with_failing_rows(engine):
    rows = [
        {"question": "What is the capital of Italy?"},
        {"question": "word " * 5000},
        {"nonsense": 1},
        {"question": "Sort this list: pear, apple, banana"},
    ]
    states = qa.run_batch(rows, backend=engine, temperature=0)
    assert states[0]["answer"] == "The capital of Italy is Rome."
    assert states[3]["answer"] == "apple, banana, pear"
    with pytest.raises(GenerationError, match=r"gen\('answer'\) at .*test_on_engine.py:\d+") as e:
        states[1]["answer"]
    assert isinstance(e.value.cause, ContextLengthError)
    with pytest.raises(TypeError, match="nonsense"):
        states[2]["answer"]


def test_a_bad_regex_is_told_where_it_is_written_or_read(engine):
    with pytest.raises(ConstraintError, match="regex: "):
        sgl.gen("x", regex="(")
    s = sgl.start_state(engine)
    s += "a" + sgl.gen("x", regex=r"(a)\1")  # Python takes it, an automaton cannot
    with pytest.raises(GenerationError) as e:
        s["x"]
    assert isinstance(e.value.cause, ConstraintError)
    sgl.finish_run(s)


def test_one_branch_fails_on_the_real_engine(engine):
    s = sgl.start_state(engine, defaults={"temperature": 0, "max_new_tokens": 4})
    s += "Hello"
    group = s.fork(2)
    group += lambda i: "x " * (4000 * i) + sgl.gen("y")
    with pytest.raises(BranchError, match="1 of 2"):
        group.join()
    assert isinstance(s["y"][0], str)
    assert s["y"][1] is None
    sgl.finish_run(s)


def test_ctrl_c_keeps_the_partial_text_and_the_state_goes_on(engine):
    s = sgl.start_state(engine, defaults={"ignore_eos": True, "max_new_tokens": 1500})
    s += sgl.user("Tell me everything.")
    s += sgl.assistant(sgl.gen("x"))
    for _ in s.text_iter("x"):
        break  # it has begun
    main = threading.main_thread().ident
    threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        s["x"]
    sgl.finish_run(s, interrupt.value)
    assert time.monotonic() - start < 3
    assert 0 < s.get_meta_info("x")["completion_tokens"] < 1500
    assert s["x"]
    assert s.messages()[-1]["content"] == s["x"].lstrip()
    assert isinstance(s.error(), RequestAborted)
    s += sgl.user("What is 7 + 15?")
    s += sgl.assistant(sgl.gen("y", max_tokens=4, temperature=0))
    assert s["y"]
    engine.check()


def test_the_engines_thread_survives_programs(engine):
    @sgl.function
    def chain(s, i):
        for k in range(3):
            s += f"{i}-{k}: " + sgl.gen(f"g{k}", max_tokens=2)

    states = chain.run_batch([{"i": i} for i in range(6)], backend=engine, num_threads=3)
    assert all(s.error() is None for s in states)
    engine.check()


def test_a_runs_seed_differs_by_branch_and_repeats_as_a_whole(engine):
    @sgl.function
    def votes(s):
        s += sgl.user("What is 38 + 45?")
        group = s.fork(6)
        group += sgl.assistant(sgl.gen("sum", regex="[0-9]{2}"))
        group.join()

    first = votes.run(seed=5, temperature=1.5, backend=engine)["sum"]
    assert len(set(first)) > 1, "branches draw on their own"
    assert votes.run(seed=5, temperature=1.5, backend=engine)["sum"] == first
    assert votes.run(seed=6, temperature=1.5, backend=engine)["sum"] != first


def test_what_the_sampler_knows_gen_knows(engine):
    s = sgl.start_state(engine)
    bias = {"77": 1e4}
    s += "One two" + sgl.gen("x", max_tokens=3, ignore_eos=True, logit_bias=bias)
    bias["77"] = -1e4
    s += sgl.gen(
        "y",
        max_tokens=20,
        temperature=0,
        repetition_penalty=1.5,
        stop_regex="[aeiou][a-z]",
        return_logprob=True,
        token_ids_logprob=[77],
        return_entropy=True,
    )
    assert s["x"] == engine.tokenizer.decode([77] * 3)
    meta = s.get_meta_info("y")
    if meta["finish_reason"]["type"] == "stop":
        assert meta["finish_reason"]["matched"] == "[aeiou][a-z]"
    tokens = meta["completion_tokens"]
    assert len(meta["output_token_entropy"]) == len(meta["output_token_ids_logprobs"]) == tokens
    sgl.finish_run(s)


def test_the_samplers_mistakes_are_told_on_gens_line():
    with pytest.raises(ValueError, match="presence_penalty: "):
        sgl.gen("z", presence_penalty=5)
    with pytest.raises(ValueError, match="stop_regex: "):
        sgl.gen("z", stop_regex="a*")


def test_a_regex_with_unicode_properties(engine):
    @sgl.function
    def program(s):
        s += "Name: " + sgl.gen("name", regex=r"\p{Lu}\p{Ll}{2,5}", max_tokens=10)

    name = program.run(backend=engine)["name"]
    assert name[0].isupper()
    assert 3 <= len(name) <= 6
    with pytest.raises(ConstraintError, match=r"unknown property \\p\{Foo\} at position 1"):
        sgl.gen("x", regex=r"a\p{Foo}")
