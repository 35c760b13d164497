"""``%load_ext sglnb`` and ``%unload_ext sglnb``."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from .magic import SglMagics
from .source import await_async_cells


def load_ipython_extension(ip: InteractiveShell) -> None:
    """Add ``%%sgl``, ``%sgl``, their completion and ``%config SglMagics``."""
    unload_ipython_extension(ip)  # loading twice leaves one of each
    magics = SglMagics(ip)  # which enters itself in ip.configurables
    ip.register_magics(magics)
    ip.Completer.custom_matchers.append(magics.matcher)
    ip.input_transformers_post.append(await_async_cells)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """Take back what was added. Engines and states go on."""
    if await_async_cells in ip.input_transformers_post:
        ip.input_transformers_post.remove(await_async_cells)
    for magics in [c for c in ip.configurables if isinstance(c, SglMagics)]:
        ip.configurables.remove(magics)
        ip.Completer.custom_matchers.remove(magics.matcher)
        for kind in ("line", "cell"):
            ip.magics_manager.magics[kind].pop("sgl", None)
        ip.magics_manager.registry.pop(SglMagics.__name__, None)
