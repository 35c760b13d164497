"""Text as it comes: iterators over a state's text or one of its variables."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .operation import Operation
from .opqueue import again
from .waiting import SLICE_SECONDS

if TYPE_CHECKING:
    from .executor import StreamExecutor


class Look(NamedTuple):
    """What there is at one moment."""

    text: str
    meta_info: dict[str, Any] | None = None
    over: bool = False
    error: BaseException | None = None
    """Raised once the text has been handed out."""


_NO_STREAM = (
    "text_iter: variable {name!r} is a list, several texts that come side by side; read it as a "
    "whole with s[{name!r}], or fork and read each branch's own"
)


class TextSource:
    """Follows the text of a state (``name`` None) or of a variable from its first letter."""

    def __init__(self, ex: StreamExecutor, name: str | None):
        self._ex = ex
        self._name = name
        self._op: Operation | None = None

    def look(self) -> Look:
        """All text so far and whether that is the end."""
        return self._whole() if self._name is None else self._variable(self._name)

    def _whole(self) -> Look:
        ex = self._ex
        with ex.lock:
            over = ex.idle and not ex.body_elsewhere
            return Look(ex.live_text(), None, over, ex.error_ if over else None)

    def _variable(self, name: str) -> Look:
        ex = self._ex
        with ex.lock:
            pending = ex.table.pending.get(name)
            if self._op is None:
                self._op = pending
            op = self._op
            if op is not None and op is pending:
                if op.several:
                    raise TypeError(_NO_STREAM.format(name=name))
                if op.owner is not ex or not op.requests:
                    return Look("")
                return Look(op.live_text, op.requests[0].meta_info)
            error = op.error.for_variable(name) if op is not None and op.error else None
            if name in ex.variables:
                value = ex.variables[name]
                if isinstance(value, list):
                    raise TypeError(_NO_STREAM.format(name=name))
                text = value if isinstance(value, str) else str(value)
                return Look(text, ex.meta_info.get(name), True, error)
            if ex.expects(name) or not ex.body_elsewhere:
                return Look(op.last_text if op else "", None, True, error or ex.missing(name))
            return Look("")


def text_iter(ex: StreamExecutor, name: str | None = None) -> Iterator[str]:
    """Pieces of text as they come; ends with the text and raises what cut it short."""
    source, news = TextSource(ex, name), threading.Event()
    ex.watch(news.set)
    try:
        sent = 0
        while True:
            news.clear()
            look = source.look()
            if len(look.text) > sent:
                yield look.text[sent:]
                sent = len(look.text)
            elif look.over:
                break
            else:
                news.wait(SLICE_SECONDS)
        if look.error is not None:
            raise again(look.error)
    except KeyboardInterrupt:
        ex.run.abort()
        raise
    finally:
        ex.unwatch(news.set)


async def text_async_iter(
    ex: StreamExecutor, name: str | None = None, return_meta_data: bool = False
) -> AsyncIterator[Any]:
    """As :func:`text_iter` in a running event loop, whose thread is never blocked. When the
    task that waits here is cancelled, the run is stopped."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    source = TextSource(ex, name)

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(news.set)
        except RuntimeError:
            ex.unwatch(tell)  # the loop was closed: nobody listens any more

    ex.watch(tell)
    try:
        sent = 0
        while True:
            news.clear()
            look = source.look()
            if len(look.text) > sent:
                piece, sent = look.text[sent:], len(look.text)
                yield (piece, look.meta_info) if return_meta_data else piece
            elif look.over:
                break
            else:
                await news.wait()
        if look.error is not None:
            raise again(look.error)
    except asyncio.CancelledError:  # Ctrl-C in a cell with a top-level await comes as this
        ex.run.abort()
        raise
    finally:
        ex.unwatch(tell)
