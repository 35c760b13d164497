"""``engine.generate``: submit and wait, or stream, with SGLang's dicts."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .request import Request
from .sampling_params import SamplingParams

if TYPE_CHECKING:
    from .engine import Engine


class Asked(NamedTuple):
    """One text to write."""

    prompt: Any
    params: SamplingParams
    images: Any
    lora: str | None


def generate(
    engine: Engine,
    prompt: Any,
    sampling_params: Any,
    *,
    image_data: Any = None,
    lora_path: Any = None,
    stream: bool,
    **options: Any,
) -> Any:
    """See :meth:`sglnb.runtime.engine.Engine.generate`; ``options`` go to ``submit``."""
    many = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    prompts = prompt if many else [prompt]
    each = sampling_params
    if not isinstance(sampling_params, list):
        each = [sampling_params] * len(prompts)
    if len(each) != len(prompts):
        raise ValueError(
            f"sampling_params: {len(each)} given for {len(prompts)} prompts; give one dict for "
            "all, or one for each"
        )
    images = image_data if many and image_data is not None else [image_data] * len(prompts)
    if not isinstance(images, (list, tuple)) or len(images) != len(prompts):
        raise ValueError(
            f"image_data: for {len(prompts)} prompts it must be a list with one item (None, an "
            "image or a list of images) for each"
        )
    loras = lora_path if many and isinstance(lora_path, list) else [lora_path] * len(prompts)
    if len(loras) != len(prompts):
        raise ValueError(
            f"lora_path: {len(loras)} given for {len(prompts)} prompts; give one name for all, or "
            "a list with a name or None for each"
        )
    asked = [
        Asked(one, sibling, seen, lora)
        for one, params, seen, lora in zip(prompts, each, images, loras, strict=True)
        for sibling in siblings(engine._intake.sampling(params))
    ]
    flat = many or len(asked) > 1
    if stream:
        return _stream(engine, asked, flat, options)
    requests = _submit(engine, asked, options)
    try:
        results = [_as_dict(request.result()) for request in requests]
    except BaseException:
        _abort(requests)
        raise
    return results if flat else results[0]


def siblings(params: SamplingParams) -> list[SamplingParams]:
    """The ``n`` requests that ``params`` ask for. The first has the seed itself, so that it is
    what ``n=1`` gives; the others' seeds follow from it. They share the prompt's prefill: the
    scheduler lets a request wait while another computes its prefix."""
    if params.n == 1:
        return [params]
    return [replace(params, n=1, seed=seed) for seed in sibling_seeds(params.seed, params.n)]


def sibling_seeds(seed: int | None, n: int) -> list[int | None]:
    """The seeds of ``n`` siblings: the first has ``seed`` itself; without one none has any, and
    each draws its own."""
    if seed is None:
        return [None] * n
    return [seed, *(_derived(seed, i) for i in range(1, n))]


def _derived(seed: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}#{index}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def _submit(
    engine: Engine,
    asked: list[Asked],
    options: dict[str, Any],
    news: queue.SimpleQueue[int] | None = None,
) -> list[Request]:
    """All or none; ``news`` gets the number of each request that has something new."""
    requests: list[Request] = []
    try:
        for i, one in enumerate(asked):
            told = options if news is None else options | {"on_update": _teller(news, i)}
            requests.append(
                engine.submit(one.prompt, one.params, image_data=one.images, lora=one.lora, **told)
            )
    except BaseException:
        _abort(requests)
        raise
    return requests


def _teller(news: queue.SimpleQueue[int], i: int) -> Any:
    return lambda request: news.put(i)


def _stream(
    engine: Engine,
    asked: list[Asked],
    numbered: bool,
    options: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Submit now, so that mistakes are told now; the text comes as it is asked for."""
    news: queue.SimpleQueue[int] = queue.SimpleQueue()
    requests = _submit(engine, asked, options, news)

    def updates() -> Iterator[dict[str, Any]]:
        going = set(range(len(requests)))
        try:
            while going:
                try:
                    new = {news.get(timeout=0.1)}  # in slices, so that Ctrl-C gets through
                except queue.Empty:
                    continue
                while not news.empty():
                    new.add(news.get())
                for i in sorted(new & going):
                    request = requests[i]
                    if request.done:  # looked at first: what is told then is all of it
                        going.discard(i)
                        request.result()
                    yield _as_dict(request) | ({"index": i} if numbered else {})
        finally:
            _abort(requests)

    return updates()


def _abort(requests: list[Request]) -> None:
    for request in requests:
        request.abort()


def _as_dict(request: Request) -> dict[str, Any]:
    return {
        "text": request.text,
        "output_ids": request.output_ids,
        "meta_info": request.meta_info,
    }
