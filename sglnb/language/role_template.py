"""Chat templates as SGLang's backends have them: a fixed prefix and suffix for each role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RoleTemplate:
    """What stands around the messages of each role.

    Attributes:
        role_prefix_and_suffix: (prefix, suffix) by role.
        default_system_prompt: a system message for conversations that begin without one.
        stop_str: what ends an assistant message.
        image_token: what stands for an image in the text.
    """

    name: str = "default"
    default_system_prompt: str | None = None
    role_prefix_and_suffix: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {
            "system": ("SYSTEM:", "\n"),
            "user": ("USER:", "\n"),
            "assistant": ("ASSISTANT:", "\n"),
        }
    )
    stop_str: Sequence[str] = ()
    image_token: str = "<image>"

    def get_prefix_and_suffix(
        self, role: str, hist_messages: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[str, str]:
        """(prefix, suffix) of a message of ``role``; ``hist_messages`` came before it."""
        return self.role_prefix_and_suffix.get(role, ("", ""))


_KNOWN = {
    "default": RoleTemplate(),
    "chatml": RoleTemplate(
        "chatml",
        role_prefix_and_suffix={
            role: (f"<|im_start|>{role}\n", "<|im_end|>\n")
            for role in ("system", "user", "assistant")
        },
        stop_str=("<|im_end|>",),
    ),
}


def get_chat_template(name: str) -> RoleTemplate:
    """The template "default" or "chatml". A model that runs here brings its own, and a backend
    for another one makes a :class:`RoleTemplate`.

    Raises:
        ValueError: another name.
    """
    if name not in _KNOWN:
        raise ValueError(
            f"name: the chat templates known by name are {', '.join(_KNOWN)}, got {name!r}; "
            "make a RoleTemplate(name, role_prefix_and_suffix={...})"
        )
    return _KNOWN[name]


class Around:
    """A template of SGLang's kind (``get_prefix_and_suffix``) as programs ask for it; see
    :class:`~sglnb.language.chat_template.ChatTemplate`."""

    stop_token_ids = ()

    def __init__(self, template: Any):
        self._template = template

    @property
    def stop(self) -> tuple[str, ...]:
        """Stop strings for the assistant."""
        stop = getattr(self._template, "stop_str", None) or ()
        return (stop,) if isinstance(stop, str) else tuple(stop)

    def around(self, role: str, previous: str | None) -> tuple[str, str]:
        """(prefix, suffix) of a message of ``role`` after one of ``previous``."""
        history = [] if previous is None else [{"role": previous, "content": ""}]
        prefix, suffix = self._template.get_prefix_and_suffix(role, history)
        default = getattr(self._template, "default_system_prompt", None)
        if previous is None and role != "system" and default:
            before, after = self._template.get_prefix_and_suffix("system", [])
            prefix = f"{before}{default}{after}{prefix}"
        return prefix, suffix
