"""The base of backends written for SGLang: blocking methods that get the program's state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .choices import ChoicesDecision, ChoicesSamplingMethod
from .role_template import get_chat_template
from .sgl_params import SglSamplingParams

if TYPE_CHECKING:
    from .program_view import ProgramView


class BaseBackend:
    """Subclass it, write :meth:`generate`, and programs run on it::

        class Parrot(sgl.BaseBackend):
            def generate(self, s, sampling_params):
                return s.text_.split()[-1], {"completion_tokens": 1}

        qa.run("Polly", backend=Parrot())

    Every method may block: it is called on one of a few threads that all programs share, many at
    a time. What it raises is raised where the variable is read. ``s`` is a
    :class:`~sglnb.language.program_view.ProgramView`, a copy that can be changed without harm.
    The names are SGLang's, so a class that was written for it needs no change.

    Attributes:
        chat_template: what stands around messages in ``s.text_``; ``s.messages_`` has them apart.
        support_concate_and_append: without effect: ``join("concate_and_append")`` joins the texts.
        is_chat_model: for the class's own use.
        max_threads: calls in progress at most.
    """

    support_concate_and_append = False
    is_chat_model = False
    max_threads = 32

    def __init__(self) -> None:
        self.chat_template = get_chat_template("default")

    # -- what there is to write --------------------------------------------------------------

    def generate(
        self, s: ProgramView, sampling_params: SglSamplingParams
    ) -> tuple[str, dict[str, Any]]:
        """The text that follows ``s.text_``, and what ``get_meta_info`` is to tell."""
        raise NotImplementedError(f"{type(self).__name__} has no generate()")

    def generate_stream(
        self, s: ProgramView, sampling_params: SglSamplingParams
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The same in pieces. Without it text comes all at once, in a stream too."""
        raise NotImplementedError(f"{type(self).__name__} has no generate_stream()")

    def select(
        self,
        s: ProgramView,
        choices: list[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod | None = None,
    ) -> ChoicesDecision:
        """The choice that follows ``s.text_`` best."""
        raise NotImplementedError(f"{type(self).__name__} has no select()")

    def get_model_name(self) -> str:
        """The name that views and errors show."""
        return getattr(self, "model_name", type(self).__name__)

    def get_chat_template(self) -> Any:
        """:attr:`chat_template`."""
        return self.chat_template

    def commit_lazy_operations(self, s: ProgramView) -> None:
        """A hint: several branches are about to go on from ``s.text_``."""

    def cache_prefix(self, prefix_str: str) -> None:
        """A hint: several prompts are about to begin with this text."""

    def begin_program(self, s: ProgramView) -> None:
        """A state begins: that of a program, or a branch."""

    def end_program(self, s: ProgramView) -> None:
        """A state has done all that was expected of it. (It may go on later.)"""

    def flush_cache(self) -> Any:
        """Forget what is cached; see ``sgl.flush_cache``."""

    def get_server_info(self) -> Any:
        """What serves; see ``sgl.get_server_info``."""

    def shutdown(self) -> None:
        """Called by whoever made the backend."""

    # -- in SGLang's base class too, and never called by programs here -------------------------

    def uncache_prefix(self, rid: str) -> None:
        """Not called."""

    def end_request(self, rid: str | list[str]) -> None:
        """Not called."""

    def fork_program(self, src: Any, dst: list[Any], position_ids_offset: Any = None) -> None:
        """Not called; :meth:`begin_program` is, for each branch."""

    def fill_image(self, s: Any) -> None:
        """Not called; ``s.images_`` has the images."""

    def concatenate_and_append(self, src_rids: list[str], dst_rid: str) -> None:
        """Not called."""
        raise NotImplementedError(f"{type(self).__name__} has no concatenate_and_append()")
