"""SGLang's module-level settings and calls, as far as they mean something here."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

from .backend import as_backend, default_as_given, get_default_backend, set_default_backend

NO_EFFECT = {
    "verbosity": "the library prints nothing; look at the state",
    "spaces_between_special_tokens_in_out": "fast tokenizers put no spaces there",
    "enable_parallel_encoding": "join('concate_and_append') joins the texts",
    "enable_precache_with_tracing": "requests that share a prefix wait for it and share it",
}
"""SGLang's settings that change nothing here, and why."""


class GlobalConfig:
    """``sgl.global_config``: settings for all programs of the process.

    Attributes:
        default_backend: where programs run; see :func:`~sglnb.set_default_backend`.
        skip_special_tokens_in_output: what ``gen`` does where neither it nor ``run`` says
            ``skip_special_tokens``.
    """

    def __init__(self) -> None:
        self.skip_special_tokens_in_output = True

    @property
    def default_backend(self) -> Any:
        """What was given to ``set_default_backend``; None for the embedded engine."""
        return default_as_given()

    @default_backend.setter
    def default_backend(self, backend: Any) -> None:
        set_default_backend(backend)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in NO_EFFECT:
            warnings.warn(f"global_config.{name}: no effect ({NO_EFFECT[name]})", stacklevel=2)
        elif name not in ("default_backend", "skip_special_tokens_in_output"):
            raise AttributeError(
                f"global_config has no {name!r}; it has: default_backend, "
                "skip_special_tokens_in_output"
            )
        else:
            super().__setattr__(name, value)


global_config = GlobalConfig()


def flush_cache(backend: Any = None) -> bool:
    """Empty the cache of ``backend`` (None: of the default one), as far as nothing in it is in
    use or pinned.

    Returns:
        True unless the backend says otherwise.
    """
    return _ask(backend, "flush_cache") is not False


def get_server_info(backend: Any = None) -> Any:
    """What ``backend`` (None: the default one) tells of itself, a dict as a rule."""
    return _ask(backend, "get_server_info")


def _ask(backend: Any, name: str) -> Any:
    backend = get_default_backend() if backend is None else as_backend(backend)
    if not hasattr(backend, name):
        raise TypeError(f"backend: {type(backend).__name__} has no {name}()")
    return getattr(backend, name)()


def Runtime(*args: Any, **kwargs: Any) -> NoReturn:
    """SGLang's server in a process of its own. There is none: use :class:`sglnb.Engine`, which
    lives in this process and takes programs and prompts.

    Raises:
        TypeError: always.
    """
    raise TypeError(
        "Runtime: there is no server process here; use sgl.Engine(model), which runs in a thread "
        "of this process: sgl.set_default_backend(sgl.Engine(model))"
    )
