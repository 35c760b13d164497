"""Backends written for SGLang: blocking methods that get the state run our programs."""

from __future__ import annotations

import threading
import time
import warnings

import pytest
from PIL import Image as Pictures

import sglnb as sgl
from sglnb.language import ChoicesDecision, GenerationAborted, GenerationError


class Parrot(sgl.BaseBackend):
    """Says the last word again, and notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.seen, self.began, self.ended, self.hints = [], [], [], []

    def generate(self, s, sampling_params):
        self.seen.append((s, sampling_params))
        return s.text_.split()[-1], {"completion_tokens": 1}

    def select(self, s, choices, temperature, choices_method=None):
        self.seen.append((s, choices))
        return ChoicesDecision(choices[-1], {"why": "the last"})

    def commit_lazy_operations(self, s):
        self.hints.append(s.text_)

    def begin_program(self, s):
        self.began.append(s.sid)

    def end_program(self, s):
        self.ended.append(s.sid)

    def flush_cache(self):
        return False

    def get_server_info(self):
        return {"bird": "grey"}


@sgl.function
def chat(s, question):
    s += sgl.system("Repeat.")
    s += sgl.user(question)
    s += sgl.assistant("Well: hi " + sgl.gen("x", max_tokens=7, stop=["\n"], temperature=0.5))
    s += sgl.user("more")
    s += sgl.assistant(sgl.gen("y", dtype=int))
    s += " or " + sgl.select("z", ["a", "b"])


def test_a_program_runs_on_it_and_it_sees_the_state():
    parrot = Parrot()
    state = chat.bind(question="hello you").run(backend=parrot, top_k=3)
    assert state["x"] == "hi"
    assert state.text() == (
        "SYSTEM:Repeat.\nUSER:hello you\nASSISTANT:Well: hi hi\nUSER:more\n"
        "ASSISTANT:ASSISTANT:\n or b"
    )
    assert state.get_meta_info("x")["completion_tokens"] == 1
    assert state.get_meta_info("z") == {"why": "the last"}
    (first, params), (second, typed), (third, choices) = parrot.seen
    assert first.text_ == "SYSTEM:Repeat.\nUSER:hello you\nASSISTANT:Well: hi "
    assert first.messages_ == [
        {"role": "system", "content": "Repeat."},
        {"role": "user", "content": "hello you"},
    ]
    assert (first.cur_role, first.text_[first.cur_role_begin_pos :]) == ("assistant", "Well: hi ")
    assert first.arguments == {"question": "hello you"}
    assert (params.max_new_tokens, params.stop, params.temperature) == (7, ["\n"], 0.5)
    assert (params.top_k, params.n, params.dtype) == (3, 1, None)
    assert params.to_openai_kwargs()["max_tokens"] == 7
    assert (typed.dtype, typed.regex) == ("int", None)
    assert second.variables["x"] == "hi"
    assert third.get_var("y") == "ASSISTANT:"
    assert (third.cur_role, choices) == (None, ["a", "b"])


def test_what_it_does_to_the_view_harms_nothing():
    class Vandal(Parrot):
        def generate(self, s, sampling_params):
            s.messages_.pop(0)
            s.messages_[0]["content"] = "?"
            s.variables.clear()
            s.text_ = ""
            return "done", None

    state = chat.run("hello", backend=Vandal())
    assert [m["content"] for m in state.messages()][:2] == ["Repeat.", "hello"]
    assert state["y"] == "done"


def test_hints_and_states_are_told():
    parrot = Parrot()

    @sgl.function
    def program(s):
        s += "shared text"
        group = s.fork(3)
        group += sgl.gen("x")
        group.join()

    state = program.run(backend=parrot)
    assert state["x"] == ["text"] * 3
    assert parrot.hints == ["shared text"]
    assert sgl.wait_run(state, 5)
    wait_for(lambda: len(parrot.ended) == 4)
    assert sorted(parrot.ended) == sorted(parrot.began)
    assert len(set(parrot.began)) == 4
    assert {view.fork_start_text_pos for view, _ in parrot.seen} == {len("shared text")}


def wait_for(ready):
    for _ in range(500):
        if ready():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_errors_arrive_at_the_variable():
    class Broken(Parrot):
        def generate(self, s, sampling_params):
            raise ConnectionError("no route")

        def end_program(self, s):
            raise ConnectionError("not even now")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        state = chat.run("hello", backend=Broken())
        with pytest.raises(GenerationError, match=r"gen\('x'\) at .*ConnectionError: no route"):
            state["x"]
        wait_for(lambda: told)
    assert "end_program failed: ConnectionError: not even now" in str(told[0].message)
    with pytest.raises(GenerationError, match="BaseBackend has no generate"):
        chat.run("hello", backend=sgl.BaseBackend())["x"]


def test_streams():
    class Slow(Parrot):
        going = threading.Event()
        closed = False

        def generate_stream(self, s, sampling_params):
            try:
                yield "one ", {"completion_tokens": 1}
                self.going.wait(5)
                yield "two", {"completion_tokens": 2}
                yield "three", {"completion_tokens": 3}
            finally:
                Slow.closed = True

    @sgl.function
    def program(s):
        s += "Q: " + sgl.gen("x") + "."

    slow = Slow()
    state = program.run(backend=slow, stream=True)
    pieces = state.text_iter("x")
    assert next(pieces) == "one "
    slow.going.set()
    assert "".join(pieces) == "twothree"
    assert state.text() == "Q: one twothree."
    assert state.get_meta_info("x")["completion_tokens"] == 3
    # without stream=True SGLang calls generate()
    assert program.run(backend=slow)["x"] == "Q:"
    # a class that cannot stream is asked for all of it
    assert "".join(program.run(backend=Parrot(), stream=True).text_iter()) == "Q: Q:."

    slow.going.clear()
    Slow.closed = False
    state = program.run(backend=slow, stream=True)
    assert next(state.text_iter("x")) == "one "
    state.abort()
    assert isinstance(state.error(), GenerationAborted)
    assert state["x"] == "one "
    slow.going.set()
    wait_for(lambda: Slow.closed)


def test_an_error_in_a_stream_keeps_what_came():
    class Cut(Parrot):
        def generate_stream(self, s, sampling_params):
            yield "one ", {}
            raise ConnectionError("cut")

    state = chat.run("hi", backend=Cut(), stream=True)
    with pytest.raises(GenerationError, match="cut"):
        state["x"]
    assert state.text().endswith("Well: hi one ")


def test_a_stop_does_not_wait_for_a_call_that_blocks():
    class Stuck(Parrot):
        free = threading.Event()

        def generate(self, s, sampling_params):
            self.free.wait(10)
            return "late", {}

    stuck = Stuck()
    s = sgl.start_state(stuck)
    s += "a" + sgl.gen("x")
    started = time.monotonic()
    s.abort()
    assert isinstance(s.error(), GenerationAborted)
    assert time.monotonic() - started < 2
    stuck.free.set()
    sgl.finish_run(s)
    assert sgl.wait_run(s, 5)
    assert s.text() == "a"
    s += "b" + sgl.gen("y")
    assert s["y"] == "late"


def test_many_states_share_a_few_threads():
    class Counting(Parrot):
        max_threads = 4
        now = most = 0
        lock = threading.Lock()

        def generate(self, s, sampling_params):
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.005)
            with self.lock:
                self.now -= 1
            return "ok", {}

    counting = Counting()
    before = threading.active_count()

    @sgl.function
    def program(s):
        s += "text"
        group = s.fork(60)
        group += sgl.gen("x") + sgl.gen("y")
        assert threading.active_count() <= before + 5  # and the one that goes on with programs
        group.join()

    assert program.run(backend=counting)["y"] == ["ok"] * 60
    assert counting.most == 4


def test_module_level_calls_reach_it():
    parrot = Parrot()
    assert sgl.get_server_info(parrot) == {"bird": "grey"}
    assert sgl.flush_cache(parrot) is False
    sgl.set_default_backend(parrot)
    try:
        assert sgl.global_config.default_backend is parrot
        assert chat.run("hello")["x"] == "hi"
        assert sgl.get_server_info()["bird"] == "grey"
    finally:
        sgl.set_default_backend(None)
    assert sgl.global_config.default_backend is None


def test_a_class_that_knows_nothing_of_us():
    """As one that derives from the real SGLang's base class, inside what SGLang calls Runtime."""

    class Template:
        def get_prefix_and_suffix(self, role, messages):
            return f"<{role}>", "</>" if messages else "</first>"

    class Foreign:
        def get_chat_template(self):
            return Template()

        def get_model_name(self):
            raise NotImplementedError

        def generate(self, s, sampling_params):
            return "ok", {}

    class Runtime:
        endpoint = Foreign()

    @sgl.function
    def program(s):
        s += sgl.user("q")
        s += sgl.assistant(sgl.gen("x"))

    assert program.run(backend=Runtime()).text() == "<user>q</first><assistant>ok</>"


def test_templates_with_a_system_prompt_of_their_own():
    class Polite(Parrot):
        def __init__(self):
            super().__init__()
            self.chat_template = sgl.RoleTemplate(
                "polite", "Be kind.", {r: (f"[{r}]", ";") for r in ("system", "user", "assistant")}
            )

    @sgl.function
    def program(s):
        s += sgl.user("q")

    assert program.run(backend=Polite()).text() == "[system]Be kind.;[user]q;"
    assert sgl.get_chat_template("chatml").get_prefix_and_suffix("user", [])[0].endswith("user\n")
    with pytest.raises(ValueError, match="default, chatml, got 'vicuna'"):
        sgl.get_chat_template("vicuna")


def test_it_sees_images():
    parrot = Parrot()

    @sgl.function
    def program(s):
        s += sgl.user(sgl.image(Pictures.new("RGB", (2, 2))) + "What is this?")
        s += sgl.assistant(sgl.gen("x"))

    program.run(backend=parrot)["x"]
    view, _ = parrot.seen[0]
    assert view.text_.startswith("USER:<image>What")
    assert len(view.images_) == 1
    assert view.cur_images == []
    assert view.messages_[0]["content"][0]["image_url"]["url"].endswith(view.images_[0][1])


def test_batches():
    rows = [{"question": f"hello {i}"} for i in range(50)]
    states = chat.run_batch(rows, backend=Parrot())
    assert {s["x"] for s in states} == {"hi"}
