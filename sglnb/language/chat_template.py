"""What stands before and after a message, read off the tokenizer's own chat template.

A program writes its messages piece by piece, so it needs each role's prefix and suffix.
They are found by rendering small conversations whose contents are marker words and looking
at what stands around the markers.

A tokenizer without a template gets a plain form, ``user:\\n...\\n\\n``, and assistant
generations stop where another role would begin.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

PLAIN_ROLES = ("system", "user", "assistant")


class ChatTemplate:
    """Role prefixes and suffixes of one tokenizer.

    Args:
        tokenizer: a :class:`~sglnb.runtime.tokenizer.Tokenizer`, or None for the plain form.
    """

    def __init__(self, tokenizer: Any = None):
        self._tokenizer = tokenizer
        self.plain = tokenizer is None or not tokenizer.has_chat_template
        self._known: dict[tuple[str, str | None], tuple[str, str]] = {}

    def around(self, role: str, previous: str | None) -> tuple[str, str]:
        """(prefix, suffix) of a message of ``role`` that follows one of role ``previous``
        (None: it is the first). The first prefix holds whatever the template puts in front
        of a conversation: begin-of-text, a default system message.

        Raises:
            ValueError: the template has no place for such a message.
        """
        key = (role, previous)
        if key not in self._known:
            self._known[key] = self._plain(role) if self.plain else self._derive(role, previous)
        return self._known[key]

    @property
    def stop(self) -> tuple[str, ...]:
        """Stop strings for the assistant; only the plain form needs any."""
        if not self.plain:
            return ()
        return tuple(f"\n\n{role}:\n" for role in PLAIN_ROLES)

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The special token that closes an assistant message, which need not be the
        tokenizer's end of text."""
        if self.plain:
            return ()
        if not hasattr(self, "_stop_token_ids"):
            _, suffix = self.around("assistant", "user")
            ids = self._tokenizer.encode_plain(suffix.lstrip())[:1] if suffix.strip() else []
            table = self._tokenizer.token_bytes
            self._stop_token_ids = tuple(i for i in ids if table[i] is None)
        return self._stop_token_ids

    @staticmethod
    def _plain(role: str) -> tuple[str, str]:
        return f"{role}:\n", "\n\n"

    def _derive(self, role: str, previous: str | None) -> tuple[str, str]:
        """Try the conversation as it is, then one that stricter templates accept."""
        history = _HISTORY.get(previous, ["user"])
        attempts = [([*history, role], len(history))]
        if role == "system":
            attempts.append(([*history, role, "user"], len(history)))
        if role == "assistant":
            attempts.append((["user", role], 1))
        problem: Exception | None = None
        for roles, at in attempts:
            try:
                found = self._cut(roles, at)
            except Exception as error:  # jinja's own kinds, and whatever a template raises
                problem = error
                continue
            if found is not None:
                return found
        place = f"after {previous!r}" if previous else "as the first"
        reason = f": {problem}" if problem else ""
        raise ValueError(
            f"the model's chat template takes no {role!r} message {place}{reason}"
        ) from problem

    def _cut(self, roles: list[str], at: int) -> tuple[str, str] | None:
        """(prefix, suffix) of message ``at`` of a conversation; None if it is not shown.

        A suffix is given only when the message ends the conversation. Otherwise what stands
        between it and the next one is that one's prefix.
        """
        text = self._render(roles)
        before, mark, suffix = text.partition(_marker(at))
        if not mark:
            return None
        if at:
            history, last = roles[:at], _marker(at - 1)
            alone = self._render_or_nothing(history)
            if last in alone and before.startswith(alone):
                before = before[len(alone) :]
                opened = self._render(history, generation_prompt=True)
                if roles[at] == "assistant" and len(opened) > len(alone):
                    before = opened[len(alone) :]
            else:  # the template rewrites what came before
                before = before.rpartition(last)[2]
        return before, suffix if at == len(roles) - 1 else ""

    def _render_or_nothing(self, roles: list[str]) -> str:
        try:
            return self._render(roles)
        except Exception:  # fine in front of more messages, but not alone
            return ""

    def _render(self, roles: list[str], *, generation_prompt: bool = False) -> str:
        messages = [
            {"role": r, "content": _content(_marker(i), self._in_parts)}
            for i, r in enumerate(roles)
        ]
        return self._tokenizer.render_chat(messages, generation_prompt=generation_prompt)

    @cached_property
    def _in_parts(self) -> bool:
        """Whether the template shows a content only when it is a list of parts; those of some
        models with vision do."""
        for in_parts in (False, True):
            message = {"role": "user", "content": _content(_marker(0), in_parts)}
            try:
                text = self._tokenizer.render_chat([message], generation_prompt=False)
            except Exception:  # jinja's own kinds, and whatever a template raises
                continue
            if _marker(0) in text:
                return in_parts
        return False


_HISTORY: dict[str | None, list[str]] = {
    None: [],
    "system": ["system"],
    "user": ["user"],
    "assistant": ["user", "assistant"],
}
"""The shortest conversation that ends with a message of each role."""


def _content(text: str, in_parts: bool) -> str | list[dict[str, str]]:
    return [{"type": "text", "text": text}] if in_parts else text


def _marker(i: int) -> str:
    return f"sglnbMARKER{i}END"


@lru_cache(maxsize=8)
def chat_template_of(tokenizer: Any) -> ChatTemplate:
    """The one :class:`ChatTemplate` of ``tokenizer``."""
    return ChatTemplate(tokenizer)


def template_of(backend: Any) -> Any:
    """The chat template of a backend: its own, or its tokenizer's."""
    own = getattr(backend, "template", None)
    return chat_template_of(backend.tokenizer) if own is None else own
