"""From a name or a path to a model and its tokenizer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from ..tokenizer import Tokenizer
from . import int8, invariant, llama
from .base import Model
from .linear import Linear, packable

EMBEDDED = "sgl-tiny"
"""Name of the model that comes with the package."""

SEEING = ("llava", "qwen2_vl", "qwen2_5_vl")
"""``config.model_type`` values that :data:`.vision.ARCHITECTURES` has; that module is loaded only
when it is needed."""

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def resolve_model(model: str | Path) -> str:
    """Where ``model`` is: the embedded model's folder, a local path, or a hub name as it is.

    Raises:
        ValueError: it looks like a path, but there is no checkpoint.
    """
    name = str(model)
    if name == EMBEDDED:
        return str(ASSETS / EMBEDDED)
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return str(path)
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ValueError(
            f"model: no checkpoint at {name!r} (a folder with config.json and *.safetensors); "
            f"give such a folder, a hub name like 'org/name', or {EMBEDDED!r}"
        )
    return name


def _check_reach(name: str) -> None:
    """Fail at once where the hub is out of reach: transformers would try again for 20 seconds.

    Raises:
        ValueError: nothing of the model ``name`` is cached, and the hub's address is not known.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    host = urlsplit(constants.ENDPOINT).hostname
    if constants.HF_HUB_OFFLINE or getproxies() or try_to_load_from_cache(name, "config.json"):
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ValueError(
            f"model: {name!r} is no folder and not in the cache, and {host} cannot be reached "
            f"({error.strerror}); give a folder with config.json and *.safetensors, or go online"
        ) from error


def load_model(
    model: str | Path, *, device: str = "auto", dtype: str = "auto", deterministic: bool = False
) -> tuple[Model, Tokenizer]:
    """Load weights (safetensors only, no remote code) and tokenizer.

    Args:
        model: "sgl-tiny", a folder, or a hub name.
        device: "auto" (CUDA, then CPU) or a torch device.
        dtype: "auto" (float32 on a CPU, else the checkpoint's), "float32", "bfloat16", "float16",
            or "int8" (see :mod:`.int8`).
        deterministic: the same bits in every batch.

    Raises:
        ValueError: there is no such checkpoint, or it cannot be run as asked for.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    place = pick_device(device)
    wanted: Any = _pick_dtype(dtype, place)
    where = resolve_model(model)
    if not Path(where).is_dir():
        _check_reach(where)
    try:
        with _bars(shown=str(model) != EMBEDDED):
            config = AutoConfig.from_pretrained(where, trust_remote_code=False)
            sees = config.model_type in SEEING
            auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            hf = auto.from_pretrained(
                where, dtype=wanted, use_safetensors=True, trust_remote_code=False
            )
    except OSError as error:
        raise ValueError(f"model: {str(model)!r} cannot be loaded: {_first_line(error)}") from error
    except ValueError as error:
        if "for this kind of AutoModel" not in str(error):
            raise
        raise ValueError(
            f"model: {str(model)!r} is no decoder-only language model that transformers knows"
        ) from error
    hf = hf.to(place).eval().requires_grad_(False)
    eos = _eos_ids(hf)
    with torch.inference_mode():
        if sees:
            loaded: Model = _with_vision(hf, where)
        elif llama.supported(hf.config):
            loaded = _native(hf, dtype == "int8", deterministic)
        else:
            from .hf import TransformersModel

            loaded = TransformersModel(hf)
        if loaded.kind != "native":
            family = f"it takes one of {', '.join(sorted(llama.FAMILY))}"
            name = f"{type(hf).__name__} is run by transformers"
            if deterministic:
                raise ValueError(
                    f"deterministic: {name}, whose arithmetic depends on the batch; {family}"
                )
            if dtype == "int8":
                raise ValueError(f"dtype: {name}, where 'int8' is not there; {family}")
    loaded.eos_ids = eos
    tokenizer = Tokenizer.from_pretrained(where, vocab_size=loaded.vocab_size, eos_ids=eos)
    if sees:
        loaded.name_placeholder(tokenizer)
    return loaded, tokenizer


def _native(hf: Any, in_int8: bool, deterministic: bool) -> llama.LlamaModel:
    single = invariant.InvariantLinear if deterministic else Linear
    linear = partial(int8.make_linear, small=single) if in_int8 else single
    if not deterministic:
        return llama.LlamaModel(hf, linear=linear)
    if hf.device.type != "cpu" or hf.dtype != torch.float32 or not packable(hf.dtype):
        raise ValueError(
            "deterministic: only in float32 or int8 on a CPU, with a torch that has oneDNN; got "
            f"{str(hf.dtype).removeprefix('torch.')} on {hf.device}"
        )
    loaded = llama.LlamaModel(hf, invariant.silu, linear)
    invariant.prove(loaded.linears(), loaded.norm, hf.config.hidden_size)
    return loaded


def _with_vision(hf: Any, where: str) -> Model:
    from transformers import AutoImageProcessor

    from .vision import ARCHITECTURES

    try:
        # Pillow's way of resizing everywhere, so that torchvision makes no difference.
        processor = AutoImageProcessor.from_pretrained(
            where, backend="pil", trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model: the checkpoint has no image processor (preprocessor_config.json): "
            f"{_first_line(error)}"
        ) from error
    return ARCHITECTURES[hf.config.model_type](hf, processor)


def pick_device(device: str) -> torch.device:
    """The torch device behind a name; "auto" takes CUDA when there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"device: {device!r} is no torch device; use 'auto', 'cpu', 'cuda'"
        ) from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {device!r} asked for, but torch sees no CUDA device; use 'auto'")
    return place


def _pick_dtype(dtype: str, place: torch.device) -> Any:
    """The dtype of activations and KV."""
    if dtype == "auto":
        return torch.float32 if place.type == "cpu" else "auto"
    if dtype == "int8":
        if place.type != "cpu" or not int8.available():
            raise ValueError(
                "dtype: 'int8' is for x86 CPUs with a torch that has FBGEMM; use 'auto'"
            )
        return torch.float32
    names = ("float32", "bfloat16", "float16")
    if dtype not in names:
        raise ValueError(
            f"dtype: must be 'auto', 'int8' or one of {', '.join(names)}, got {dtype!r}"
        )
    return getattr(torch, dtype)


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """transformers' progress bars, hidden for what loads in the blink of an eye."""
    from transformers import logging

    hide = not shown and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()


def _eos_ids(hf: Any) -> tuple[int, ...]:
    eos = hf.generation_config.eos_token_id if hf.generation_config else None
    if eos is None:
        eos = hf.config.get_text_config().eos_token_id
    return tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
