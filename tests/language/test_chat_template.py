"""Prefixes and suffixes against whole conversations, for templates of several kinds."""

from __future__ import annotations

import itertools

import pytest
from jinja2 import Environment

import sglnb.language as sgl
from sglnb.language.chat_template import ChatTemplate
from sglnb.testing import CharTokenizer, ScriptedBackend

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    + CHATML
)
HEADERS = (  # begin-of-text first, contents trimmed, an end that is not the end of text
    "{% for m in messages %}{% if loop.first %}<|bos|>{% endif %}"
    "<|h|>{{ m.role }}<|/h|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|h|>assistant<|/h|>\n\n{% endif %}"
)
STRICT = (  # system inside the first user message; roles must alternate
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set sys = none %}"
    "{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ stop('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}<s>[INST] {% if loop.first and sys %}<<SYS>>{{ sys }}<</SYS>>"
    "{% endif %}{{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ stop('System role not supported') }}{% endif %}"
    + CHATML
)


class Templated(CharTokenizer):
    """A tokenizer with a chat template; ``<|eot|>`` is a special token."""

    has_chat_template = True

    def __init__(self, source: str):
        super().__init__(merges=("<|eot|>", "<|im_end|>"))
        self._template = Environment().from_string(source)

    @property
    def token_bytes(self):
        return {2_000_000: None, 1_000_001: None, **dict.fromkeys(range(256), b"x")}

    def encode_plain(self, text):
        return self.encode(text)

    def render_chat(self, messages, *, generation_prompt):
        def stop(why):
            raise RuntimeError(why)

        return self._template.render(
            messages=messages, add_generation_prompt=generation_prompt, stop=stop
        )


def piecewise(template: ChatTemplate, messages: list[dict]) -> str:
    text, previous = "", None
    for m in messages:
        prefix, suffix = template.around(m["role"], previous)
        text += prefix + m["content"] + suffix
        previous = m["role"]
    return text


def conversations():
    turn = ["user", "assistant"]
    for system, n in itertools.product((False, True), range(1, 6)):
        roles = [*(["system"] if system else []), *(turn * 3)[:n]]
        yield [{"role": r, "content": f"{r} says {i}."} for i, r in enumerate(roles)]


@pytest.mark.parametrize("source", [CHATML, DEFAULT_SYSTEM, HEADERS, STRICT])
def test_pieces_make_the_conversation(source):
    tokenizer = Templated(source)
    template = ChatTemplate(tokenizer)
    for messages in conversations():
        whole = tokenizer.render_chat(messages, generation_prompt=False)
        assert piecewise(template, messages) == whole


@pytest.mark.parametrize("source", [CHATML, DEFAULT_SYSTEM, HEADERS])
def test_the_assistants_prefix_is_the_generation_prompt(source):
    tokenizer = Templated(source)
    template = ChatTemplate(tokenizer)
    messages = [{"role": "user", "content": "hi"}]
    opened = piecewise(template, messages) + template.around("assistant", "user")[0]
    assert opened == tokenizer.render_chat(messages, generation_prompt=True)


def test_a_role_that_the_template_refuses():
    template = ChatTemplate(Templated(NO_SYSTEM))
    with pytest.raises(ValueError, match="takes no 'system' message as the first: System role not"):
        template.around("system", None)
    backend = ScriptedBackend(tokenizer=Templated(NO_SYSTEM))
    s = sgl.start_state(backend)
    s += sgl.system("x")
    assert "System role not supported" in str(s.error())
    sgl.finish_run(s)


def test_the_special_token_that_ends_the_assistant_stops_it():
    template = ChatTemplate(Templated(HEADERS))
    assert template.stop_token_ids == (2_000_000,)
    assert template.stop == ()
    backend = ScriptedBackend(tokenizer=Templated(HEADERS))
    s = sgl.start_state(backend)
    s += sgl.user("hi") + sgl.assistant(sgl.gen("x"))
    assert s["x"] == "ok"
    assert backend.calls[0].params == {"stop_token_ids": [2_000_000]}
    assert s.text() == "<|bos|><|h|>user<|/h|>\n\nhi<|eot|><|h|>assistant<|/h|>\n\nok<|eot|>"
    sgl.finish_run(s)


def test_the_plain_form_has_no_space_before_what_the_model_writes():
    template = ChatTemplate(None)
    assert template.around("assistant", "user") == ("assistant:\n", "\n\n")
    assert template.stop_token_ids == ()


def test_the_embedded_models_template(engine):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "more"},
    ]
    whole = engine.tokenizer.render_chat(messages, generation_prompt=False)
    assert piecewise(ChatTemplate(engine.tokenizer), messages) == whole
