"""``engine.generate``: submit and wait, or stream, with SGLang's dicts."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .request import Request

if TYPE_CHECKING:
    from .engine import Engine


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
    if stream:
        if many:
            raise ValueError("stream: works for one prompt; got a list")
        options = {**options, "image_data": images[0], "lora": loras[0]}
        return _stream(engine, prompts[0], each[0], options)
    requests: list[Request] = []
    try:
        for one, params, seen, lora in zip(prompts, each, images, loras, strict=True):
            requests.append(engine.submit(one, params, image_data=seen, lora=lora, **options))
        results = [_as_dict(request.result()) for request in requests]
    except BaseException:
        for request in requests:
            request.abort()
        raise
    return results if many else results[0]


def _stream(
    engine: Engine, prompt: Any, params: Any, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Submit now, so that mistakes are told now; the text comes as it is asked for."""
    news: queue.SimpleQueue[bool] = queue.SimpleQueue()
    request = engine.submit(prompt, params, on_update=lambda r: news.put(r.done), **options)

    def updates() -> Iterator[dict[str, Any]]:
        done = False
        try:
            while not done:
                try:
                    done = news.get(timeout=0.1)  # in slices, so that Ctrl-C gets through
                except queue.Empty:
                    continue
                while not done and not news.empty():
                    done = news.get()
                if request.error is not None:
                    raise request.error
                yield _as_dict(request)
        finally:
            request.abort()

    return updates()


def _as_dict(request: Request) -> dict[str, Any]:
    return {
        "text": request.text,
        "output_ids": request.output_ids,
        "meta_info": request.meta_info,
    }
