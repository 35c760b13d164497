"""States. ``StreamExecutor`` is what a backend's methods get as ``s``."""

from ..language.group import ProgramStateGroup
from ..language.program_view import ProgramView as StreamExecutor
from ..language.state import ProgramState

__all__ = ["ProgramState", "ProgramStateGroup", "StreamExecutor"]
