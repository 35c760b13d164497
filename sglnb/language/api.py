"""The primitives that a program appends to its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..runtime.constraints.compiler import only_one
from ..runtime.constraints.expressions import expression_spec
from ..runtime.constraints.tools import tool_set
from ..runtime.images import load_image
from ..runtime.video import load_frames
from .calls import CallForm
from .choices import METHODS, TRIE, ChoicesSamplingMethod, token_length_normalized
from .family import check_timeout
from .ir import (
    SglExpr,
    SglExprList,
    SglGen,
    SglImage,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglSeparateReasoning,
    SglVideo,
    as_expr,
    caller,
    check_unicode,
    flatten,
)
from .placeholders import SglArgument, SglImageArgument
from .sampling import check, check_pick, dtype_name, own
from .typed_expression import ExpressionForm
from .values import JsonForm, form_of


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    ignore_eos: bool | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    dtype: type | str | None = None,
    choices: Sequence[str] | None = None,
    choices_method: ChoicesSamplingMethod | str | None = None,
    regex: str | None = None,
    json_schema: Any = None,
    *,
    pick: int | Callable[[list[str]], int] | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int | str, float] | None = None,
    custom_logit_processor: Callable[[Any, Any], Any] | None = None,
    seed: int | None = None,
    no_stop_trim: bool | None = None,
    skip_special_tokens: bool | None = None,
    token_ids_logprob: Sequence[int] | None = None,
    return_entropy: bool | None = None,
    grammar: str | None = None,
    type: Any = None,
    tools: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] | None = None,
    tool_style: str | None = None,
    when: str | Sequence[str] | None = None,
    max_calls: int | None = None,
    expression: Any = None,
    scope: Mapping[str, Any] | None = None,
    whitespace: str | None = None,
    lenient: bool | None = None,
    on_budget: str | None = None,
    jump_forward: bool | None = None,
    retokenize: str | None = None,
    lora: str | None = None,
    timeout: float | None = None,
) -> SglGen | SglSelect:
    """Let the model write, and keep the text as variable ``name``.

    A parameter that is None takes the value given to ``run()``. The order is SGLang's.

    Args:
        name: the variable; None writes text without keeping it apart.
        max_tokens, min_tokens: bounds on the number of new tokens.
        n: with n over 1, so many texts are written side by side, and the variable and what
            ``get_meta_info`` tells are lists with one item for each. A ``seed`` is the first
            one's, the others' follow from it.
        pick: which of the n texts the state's own text goes on with: its index, or a function
            that is given all of them and returns the index. Default: the first.
        stop, stop_regex: text, or a regex, (or several) that ends the generation and is cut
            off; ``no_stop_trim`` leaves it on.
        frequency_penalty, presence_penalty, repetition_penalty: against tokens that were there.
        logit_bias: number to add to the logits of token ids.
        custom_logit_processor: called with ids [1, n] and logits [1, vocab], returns logits.
        seed: the same seed and prompt give the same text.
        ignore_eos: go on after the model's end of text.
        skip_special_tokens: False shows special tokens in the text.
        return_logprob, logprob_start_len, top_logprobs_num, token_ids_logprob,
            return_text_in_logprobs, return_entropy: what ``get_meta_info`` holds.
        dtype: int, float, bool or str; the text is held to that form and stays a str.
        choices: choose the likeliest of these texts, as :func:`select` does: a request for each.
        choices_method: how, see :func:`select`. With "trie" the model writes one of them, token by
            token, in one request, however many they are; the other parameters hold as for any
            text.
        regex: the text must match this pattern as a whole.
        json_schema: the text is JSON of this schema: a dict, JSON, or a type as for ``type``.
        grammar: the text is one of this grammar: Lark (``start: ...``) or EBNF
            (``root ::= ...``).
        type: the text is the JSON of this type: int, list[str], date, Literal["a", "b"], an
            enum, a dataclass, a TypedDict, a pydantic model... ``s.value(name)`` is the value.
        tools: the text is a call of one of these functions that fits its annotations;
            ``s.value(name)`` is the call, ``s.call(name)`` runs it. See :func:`describe_tools`.
        tool_style: "json" (default): ``{"name": "f", "arguments": {"x": 1}}``, or "python":
            ``f(x=1)``, where calls of tools can be arguments.
        when: a text that begins a call, such as "<tool_call>" (or that and the one that ends
            it): before and behind calls the model writes freely, and ``s.value(name)`` is the
            list of the calls.
        max_calls: how many calls there may be, 1 by default. More than one are a list.
        expression: the text is a Python expression of this type; ``s.value(name)`` is an
            :class:`Expression`, ``.evaluate(price=2.5)`` its value.
        scope: by name what the expression may use: types of variables, and functions.
        whitespace: layout of the JSON: "default" is one space after ``,`` and ``:``, as
            ``json.dumps`` has it; "compact", "indent", "free".
        lenient: leave out what the schema says and what cannot be enforced while the text is
            written. The finished text is checked, and reading the variable raises what it
            breaks.
        on_budget: what to do when ``max_tokens`` runs out before the constraint is met: "close"
            brings the text to a legal end in time (the default for ``json_schema`` and ``type``),
            "cut" leaves it as it is, "error" fails and keeps the text in the state.
        jump_forward: write text that the constraint forces without asking the model.
        retokenize: how certain text becomes tokens, "hold-back" or "rewind"; see ``Engine``.
        lora: name of the adapter to write with, see ``Engine.load_lora_adapter``.
        timeout: seconds from when it is sent. After them it is stopped, who waits for it gets a
            GenerationTimeout, and what was appended after it is dropped; the text so far is
            kept and the state can go on.

    Raises:
        ValueError: a value out of range. ConstraintError: the regex does not parse, the schema
            or the grammar cannot be used, or two constraints are given.
    """
    where = caller()
    _check_name(name)
    if timeout is not None:
        check_timeout(timeout)
    plain = (
        (dtype is None and choices is None and regex is None and json_schema is None)
        and (grammar is None and type is None and tools is None and expression is None)
        and (tool_style is None and when is None and max_calls is None and scope is None)
        and (whitespace is None and lenient is None)
    )
    if not plain:
        only_one(
            {
                "dtype": dtype,
                "choices": choices,
                "regex": regex,
                "json_schema": json_schema,
                "grammar": grammar,
                "type": type,
                "tools": tools,
                "expression": expression,
            },
            whitespace,
            lenient,
        )
    if choices is not None:
        _check_choices(choices)
        if choices_method != TRIE:
            if timeout is not None:
                raise ValueError("timeout: cannot be combined with choices, which write nothing")
            return _select(name, choices, temperature or 0.0, choices_method, where)
    elif choices_method is not None:
        raise ValueError("choices_method: needs choices")
    called = typed = form = None
    if not plain:
        dtype = dtype_name(dtype)
        called = tool_set(tools, tool_style, when, max_calls)
        typed = expression_spec(expression, scope)
        if called is not None:
            form = CallForm(called)
        elif typed is not None:
            form = ExpressionForm(typed)
        else:
            form = form_of(dtype, json_schema, type, whitespace, lenient)
    if pick is None:
        pick = 0
    else:
        _check_pick(pick, n)
    params: dict[str, Any] = {}
    if max_tokens is not None:
        params["max_new_tokens"] = max_tokens
    if min_tokens is not None:
        params["min_new_tokens"] = min_tokens
    if n is not None:
        params["n"] = n
    if stop is not None:
        params["stop"] = own(stop)
    if stop_token_ids is not None:
        params["stop_token_ids"] = own(stop_token_ids)
    if temperature is not None:
        params["temperature"] = temperature
    if top_p is not None:
        params["top_p"] = top_p
    if top_k is not None:
        params["top_k"] = top_k
    if min_p is not None:
        params["min_p"] = min_p
    if frequency_penalty is not None:
        params["frequency_penalty"] = frequency_penalty
    if presence_penalty is not None:
        params["presence_penalty"] = presence_penalty
    if repetition_penalty is not None:
        params["repetition_penalty"] = repetition_penalty
    if logit_bias is not None:
        params["logit_bias"] = own(logit_bias)
    if custom_logit_processor is not None:
        params["custom_logit_processor"] = custom_logit_processor
    if seed is not None:
        params["seed"] = seed
    if stop_regex is not None:
        params["stop_regex"] = own(stop_regex)
    if no_stop_trim is not None:
        params["no_stop_trim"] = no_stop_trim
    if ignore_eos is not None:
        params["ignore_eos"] = ignore_eos
    if skip_special_tokens is not None:
        params["skip_special_tokens"] = skip_special_tokens
    if return_logprob is not None:
        params["return_logprob"] = return_logprob
    if logprob_start_len is not None:
        params["logprob_start_len"] = logprob_start_len
    if top_logprobs_num is not None:
        params["top_logprobs_num"] = top_logprobs_num
    if token_ids_logprob is not None:
        params["token_ids_logprob"] = own(token_ids_logprob)
    if return_text_in_logprobs is not None:
        params["return_text_in_logprobs"] = return_text_in_logprobs
    if return_entropy is not None:
        params["return_entropy"] = return_entropy
    if choices is not None:
        params["choices"] = list(choices)
    if regex is not None:
        params["regex"] = regex
    if isinstance(form, JsonForm):
        params["json_schema"] = form.schema
    if grammar is not None:
        params["grammar"] = grammar
    if called is not None:
        params["tools"] = called
    if typed is not None:
        params["expression"] = typed
    if whitespace is not None:
        params["whitespace"] = whitespace
    if lenient:
        params["lenient"] = lenient
    if on_budget is not None:
        params["on_budget"] = on_budget
    if jump_forward is not None:
        params["jump_forward"] = jump_forward
    if retokenize is not None:
        params["retokenize"] = retokenize
    if lora is not None:
        params["lora"] = lora
    try:
        check(params)
    except ValueError as error:
        renamed = str(error).replace("max_new_tokens", "max_tokens")
        raise error.__class__(renamed.replace("min_new_tokens", "min_tokens")) from None
    return SglGen(name, params, dtype, where, form, pick, timeout)


def gen_int(
    name: str | None = None,
    max_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    **params: Any,
) -> SglGen:
    """:func:`gen` with ``dtype=int``."""
    return gen(name, max_tokens, n=n, stop=stop, dtype=int, **params)


def gen_string(
    name: str | None = None,
    max_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    **params: Any,
) -> SglGen:
    """:func:`gen` with ``dtype=str``: a text in double quotes."""
    return gen(name, max_tokens, n=n, stop=stop, dtype=str, **params)


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float = 0.0,
    choices_method: ChoicesSamplingMethod | str | None = None,
) -> SglSelect:
    """Append the likeliest of ``choices`` and keep it as variable ``name``.

    Args:
        choices: the texts, all scored on the same context.
        temperature: only 0.
        choices_method: ``token_length_normalized`` (default), ``greedy_token_selection`` or
            ``unconditional_likelihood_normalized``, as an object or by name.
    """
    _check_name(name)
    if choices is None:
        raise ValueError('choices: is missing; select("name", choices=["yes", "no"])')
    _check_choices(choices)
    return _select(name, choices, temperature, choices_method, caller())


def image(source: Any) -> SglImage | SglImageArgument:
    """An image, to stand where text can: ``s += user(image("cat.png") + "What is this?")``.

    It is read here and now; the state needs a model that takes images.

    Args:
        source: a path, an http(s) URL, a ``data:`` URI or base64 text, bytes, a ``PIL.Image``, or
            a numpy array [height, width] or [height, width, channels].

    Raises:
        ValueError: there is no such file, the URL cannot be fetched, or it is no image.
    """
    if type(source) is SglArgument:  # a program is traced without its image
        return SglImageArgument(source, caller())
    return SglImage(load_image(source, "image"), caller())


def video(source: Any, num_frames: int = 8) -> SglVideo:
    """A video, as ``num_frames`` images at even distances, to stand where text can.

    Args:
        source: the path of a video file (needs PyAV or OpenCV) or of an animated GIF or WebP, a
            list of frames (whatever :func:`image` takes), or a numpy array [frames, height,
            width, channels].

    Raises:
        ValueError: there is no such file, it has no frames, or no library to read it.
    """
    where = caller()
    frames = load_frames(source, num_frames, "video")
    return SglVideo(source, [SglImage(frame, where) for frame in frames])


def separate_reasoning(expr: SglExpr, model_type: str | tuple[str, str]) -> SglExprList:
    """Tell what the model thinks from what it says: after a ``gen("x")`` in ``expr`` the variable
    ``x`` is the answer and ``x_reasoning_content`` the reasoning, "" if there was none. The
    state's text goes on with the answer alone. While they come, each can be read with
    ``text_iter``; with ``n`` over 1 both are lists.

    Args:
        expr: a ``gen`` with a name, or an expression that holds some.
        model_type: "deepseek-r1", "qwen3" or another of SGLang's names for models with plain
            markers; or the markers, ``("<think>", "</think>")``.

    Raises:
        ValueError: there is no ``gen`` in it, or one without a name. (An unknown ``model_type``
            is told where it is appended.)
    """
    parts: list[SglExpr] = []
    for part in flatten(as_expr(expr)):
        parts.append(part)
        if isinstance(part, SglGen):
            parts.append(SglSeparateReasoning(model_type, part))
    if not any(isinstance(part, SglSeparateReasoning) for part in parts):
        raise ValueError(f"expr: there is no gen in it whose text could be separated: {expr!r:.60}")
    return SglExprList(parts)


def system(expr: SglExpr | str | None = None) -> SglExpr:
    """A system message; without ``expr`` only its beginning."""
    return _role("system", expr)


def user(expr: SglExpr | str | None = None) -> SglExpr:
    """A user message; without ``expr`` only its beginning."""
    return _role("user", expr)


def assistant(expr: SglExpr | str | None = None) -> SglExpr:
    """An assistant message; without ``expr`` only its beginning."""
    return _role("assistant", expr)


def system_begin() -> SglRoleBegin:
    """The beginning of a system message."""
    return SglRoleBegin("system")


def system_end() -> SglRoleEnd:
    """The end of a system message."""
    return SglRoleEnd("system")


def user_begin() -> SglRoleBegin:
    """The beginning of a user message."""
    return SglRoleBegin("user")


def user_end() -> SglRoleEnd:
    """The end of a user message."""
    return SglRoleEnd("user")


def assistant_begin() -> SglRoleBegin:
    """The beginning of an assistant message."""
    return SglRoleBegin("assistant")


def assistant_end() -> SglRoleEnd:
    """The end of an assistant message."""
    return SglRoleEnd("assistant")


def _role(role: str, expr: SglExpr | str | None) -> SglExpr:
    if expr is None:
        return SglRoleBegin(role)
    return SglRoleBegin(role) + as_expr(expr) + SglRoleEnd(role)


def _check_pick(pick: Any, n: int | None) -> None:
    whole = isinstance(pick, int) and not isinstance(pick, bool) and pick >= 0
    if not whole and not callable(pick):
        raise ValueError(
            "pick: must be the index of a text, or a function that is given the list of texts and "
            f"returns one, got {pick!r}"
        )
    if whole and n is not None:
        check_pick(pick, n)


def _check_name(name: Any) -> None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name: must be a string or None, got {type(name).__name__} {name!r:.60}")


def _check_choices(choices: Any) -> None:
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
        raise ValueError(f"choices: must be a non-empty list of strings, got {choices!r}")
    if any(not isinstance(c, str) or not c for c in choices):
        raise ValueError(f"choices: must be non-empty strings, got {list(choices)!r}")
    for choice in choices:
        check_unicode("choices", choice)


def _select(name, choices, temperature, method, where) -> SglSelect:
    if temperature != 0:
        raise ValueError(f"temperature: select takes only 0, got {temperature!r}")
    if method is None:
        method = token_length_normalized
    elif isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"choices_method: must be one of {', '.join(METHODS)}, got {method!r}")
        method = METHODS[method]
    elif not isinstance(method, ChoicesSamplingMethod):
        raise TypeError(f"choices_method: must be one of {', '.join(METHODS)}, got {method!r}")
    return SglSelect(name, list(choices), temperature, method, where)
