"""What a backend written for SGLang sees of a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .images import for_api

if TYPE_CHECKING:
    from .executor import StreamExecutor


@dataclass
class ProgramView:
    """A state as it was when a request was made, with the names of SGLang's ``StreamExecutor``.

    Attributes:
        text_: all text, with the chat template's own.
        messages_: the closed messages in the form of the OpenAI API.
        images_: (label, base64) of each image in the text; cur_images: of the open message.
        cur_role, cur_role_begin_pos: the open message, None when there is none.
        fork_start_text_pos: where a branch began.
    """

    sid: str = ""
    text_: str = ""
    messages_: list[dict[str, Any]] = field(default_factory=list)
    images_: list[tuple[str, str]] = field(default_factory=list)
    cur_images: list[tuple[str, str]] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    meta_info: dict[str, Any] = field(default_factory=dict)
    cur_role: str | None = None
    cur_role_begin_pos: int | None = None
    fork_start_text_pos: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    num_api_spec_tokens: int | None = None
    stream: bool = False
    chat_template: Any = None
    backend: Any = None
    speculated_text: str = ""
    error_: BaseException | None = None

    def text(self) -> str:
        """:attr:`text_`."""
        return self.text_

    def messages(self) -> list[dict[str, Any]]:
        """:attr:`messages_`."""
        return self.messages_

    def get_var(self, name: str) -> Any:
        """A variable that is there by now."""
        return self.variables[name]


def view_of(ex: StreamExecutor, backend: Any, chat_template: Any) -> ProgramView:
    """``ex`` as it is now."""
    with ex.lock:
        images = [(p.start, (p.image.label, p.image.data_url.partition(",")[2])) for p in ex.images]
        return ProgramView(
            sid=ex.sid,
            text_=ex.text_,
            messages_=[dict(for_api(message)) for message in ex.messages_],
            images_=[image for _, image in images],
            cur_images=[image for at, image in images if ex.cur_role and at >= ex.role_start],
            variables=dict(ex.variables),
            meta_info=dict(ex.meta_info),
            cur_role=ex.cur_role,
            cur_role_begin_pos=ex.role_start if ex.cur_role else None,
            fork_start_text_pos=ex.fork_start_text_pos,
            arguments=dict(ex.arguments),
            num_api_spec_tokens=ex.num_api_spec_tokens,
            stream=ex.stream,
            chat_template=chat_template,
            backend=backend,
        )
