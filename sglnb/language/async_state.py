"""The ``s`` of an ``async def`` program: what reads has to be awaited, what appends is as ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from . import display, reading
from .calls import await_calls, run_calls
from .group import ProgramStateGroup
from .reading import awaited
from .save import save
from .state import ProgramState


class AsyncValue:
    """A value of an async program before it was awaited: ``await s["x"]``.

    Whatever else is done with it is told as the forgotten ``await`` that it is.
    """

    def __init__(self, what: str, read: Callable[[], Coroutine[Any, Any, Any]]):
        self._what = what
        self._read = read

    def __await__(self) -> Generator[Any, None, Any]:
        return self._read().__await__()

    def __repr__(self) -> str:
        return f"<{self._what} without await>"

    def _forgotten(self, *args: Any) -> NoReturn:
        raise TypeError(f"{self._what} was not awaited; in an async program: await {self._what}")

    __str__ = __format__ = __bool__ = __int__ = __float__ = __len__ = __iter__ = _forgotten
    __getitem__ = __contains__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _forgotten
    __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _forgotten
    __hash__ = object.__hash__  # asyncio.gather keeps what it is given in a dict

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # only looked whether it is there
            raise AttributeError(name)
        self._forgotten()


class AsyncProgramState(ProgramState):
    """A state whose readers are awaited: ``await s["x"]``, ``await s.text()``, ``async for piece
    in s.text_async_iter()``. Awaiting never blocks the event loop.

    In a plain program, and outside of programs, the same state is a plain
    :class:`ProgramState`.
    """

    def _value(self, what: str, steps: Callable[[], Any], timeout: float | None = None) -> Any:
        return AsyncValue(what, lambda: awaited(steps(), timeout))

    def get_var(self, name: str, timeout: float | None = None) -> Any:
        """``await`` it: see :meth:`ProgramState.get_var`."""
        ex = self.stream_executor
        return self._value(f"s[{name!r}]", lambda: reading.variable(ex, name), timeout)

    def value(self, name: str) -> Any:
        """``await`` it: see :meth:`ProgramState.value`."""
        ex = self.stream_executor
        return self._value(f"s.value({name!r})", lambda: reading.value(ex, name))

    async def call(self, name: str) -> Any:
        """See :meth:`ProgramState.call`; results of ``async`` functions are awaited too."""
        return await await_calls(run_calls(await self.value(name)))

    def get_meta_info(self, name: str, timeout: float | None = None) -> Any:
        """``await`` it: see :meth:`ProgramState.get_meta_info`."""
        ex, what = self.stream_executor, f"s.get_meta_info({name!r})"
        return self._value(what, lambda: reading.meta_info(ex, name), timeout)

    def text(self) -> Any:
        """``await`` it: see :meth:`ProgramState.text`."""
        return self._value("s.text()", lambda: reading.text(self.stream_executor))

    def messages(self) -> Any:
        """``await`` it: see :meth:`ProgramState.messages`."""
        return self._value("s.messages()", lambda: reading.messages(self.stream_executor))

    def error(self) -> Any:
        """``await`` it: see :meth:`ProgramState.error`."""
        return self._value("s.error()", lambda: reading.error(self.stream_executor))

    async def sync(self) -> None:
        """See :meth:`ProgramState.sync`."""
        await awaited(reading.everything(self.stream_executor))

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """Not in an async program: it would block the event loop."""
        raise TypeError("text_iter: in an async program use: async for piece in text_async_iter()")

    def fork(self, size: int = 1) -> AsyncProgramStateGroup:
        """See :meth:`ProgramState.fork`; the group is joined by ``await group.join()``."""
        return AsyncProgramStateGroup(super().fork(size).states, self)

    @asynccontextmanager
    async def copy(self) -> AsyncIterator[AsyncProgramState]:
        """One branch for an ``async with`` block, joined at its end."""
        group = self.fork(1)
        try:
            yield group[0]
        except BaseException:
            group[0].stream_executor.end()
            raise
        await group.join()

    async def at(self, name: str) -> AsyncProgramState:
        """See :meth:`ProgramState.at`."""
        return self._branch(await awaited(reading.at(self.stream_executor, name)), f"at {name}")

    async def before(self, name: str) -> AsyncProgramState:
        """See :meth:`ProgramState.before`."""
        point = await awaited(reading.before(self.stream_executor, name))
        return self._branch(point, f"before {name}")

    async def undo(self, n: int = 1) -> None:
        """See :meth:`ProgramState.undo`."""
        await awaited(reading.undo(self.stream_executor, n))

    async def save(self, path: Any = None) -> str:
        """See :meth:`ProgramState.save`."""
        await self.sync()
        return save(self.stream_executor, path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": display.short(self)}  # what else there is would have to wait


class AsyncProgramStateGroup(ProgramStateGroup):
    """The branches of a fork in an async program."""

    async def join(self, mode: str = "gather_variable", on_error: str = "raise") -> None:
        """See :meth:`ProgramStateGroup.join`."""
        await awaited(self._joining(mode, on_error))
