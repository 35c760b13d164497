"""Which attention backend an engine uses."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from ..progress import Progress
from .base import AttentionBackend
from .deterministic import DeterministicAttention
from .torch_backend import TorchAttention

BACKENDS = ("auto", "flashinfer", "triton", "torch")


def make_attention(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    page_size: int,
    token_bytes: int,
    progress: Progress,
    deterministic: bool = False,
) -> AttentionBackend:
    """The backend called ``name``; "auto" takes the fastest that is there and fits.

    Args:
        name: one of :data:`BACKENDS`; "auto" takes flashinfer for passes over prompts and triton
            for recorded decode steps where both are there.
        device, dtype, head_dim: of the model.
        page_size: of the pool.
        token_bytes: of one token's KV in one layer.
        progress: told of what takes long.
        deterministic: take the one whose bits do not depend on the batch, whatever ``name``.

    Raises:
        ValueError: the backend cannot serve this model on this machine.
    """
    if deterministic:
        return DeterministicAttention(device)
    if name == "auto":
        fit = [n for n in BACKENDS[1:] if obstacle(n, device, dtype, head_dim) is None]
        if fit[:2] == ["flashinfer", "triton"]:
            from .mixed import MixedAttention

            both = (
                make_attention(n, device, dtype, head_dim, page_size, token_bytes, progress)
                for n in fit[:2]
            )
            return MixedAttention(*both)
        name = fit[0]
    reason = obstacle(name, device, dtype, head_dim)
    if reason is not None:
        raise ValueError(f"attention: {name!r} {reason}; use attention='auto'")
    if name == "flashinfer":
        from .flashinfer_backend import FlashInferAttention

        return FlashInferAttention(device, page_size, token_bytes, progress)
    if name == "triton":
        from .triton_backend import TritonAttention

        return TritonAttention(device, token_bytes)
    return TorchAttention(device)


def obstacle(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """What keeps a backend from being used; None = nothing."""
    if name == "torch":
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, the model is on {device.type}"
    if name == "triton":
        found = importlib.util.find_spec("triton") is not None
        return None if found else "needs the package triton (pip install 'sglnb[gpu]')"
    return _flashinfer_obstacle(device, dtype, head_dim)


def _flashinfer_obstacle(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    from .flashinfer_backend import DTYPES, HEAD_SIZES

    if importlib.util.find_spec("flashinfer") is None:
        return "needs the package flashinfer-python (pip install 'sglnb[gpu]')"
    if dtype not in DTYPES:
        return f"computes in float16 and bfloat16, the model is {str(dtype).split('.')[-1]}"
    if head_dim not in HEAD_SIZES:
        return f"has no kernels for heads of {head_dim}, only {HEAD_SIZES}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "needs a GPU of compute capability 8.0 or more"
    if not (_compiler() or importlib.util.find_spec("flashinfer_jit_cache")):
        return "compiles its kernels and finds no nvcc (CUDA toolkit)"
    return None


def _compiler() -> bool:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return bool(shutil.which("nvcc") or shutil.which("nvcc", path=os.path.join(home, "bin")))
