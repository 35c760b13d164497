"""What a program says: SGLang's frontend language."""

from .api import (
    assistant,
    assistant_begin,
    assistant_end,
    gen,
    gen_int,
    gen_string,
    image,
    select,
    system,
    system_begin,
    system_end,
    user,
    user_begin,
    user_end,
    video,
)
from .async_state import AsyncProgramState, AsyncProgramStateGroup
from .backend import Backend, get_default_backend, set_default_backend
from .cell import finish_run, finish_run_async, start_state, wait_run
from .choices import (
    ChoicesDecision,
    ChoicesSamplingMethod,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from .compiled import CompiledFunction
from .errors import (
    BatchInterrupted,
    BranchError,
    GenerationAborted,
    GenerationError,
    GenerationTimeout,
    PromptTooLong,
    UnknownVariable,
)
from .group import ProgramStateGroup
from .ir import (
    SglConstantText,
    SglExpr,
    SglExprList,
    SglFork,
    SglGen,
    SglImage,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
)
from .placeholders import SglArgument
from .program import SglFunction, function
from .state import ProgramState
from .trace_graph import Trace
from .trace_node import TraceError

load_state = ProgramState.load

__all__ = [
    "AsyncProgramState",
    "AsyncProgramStateGroup",
    "Backend",
    "BatchInterrupted",
    "BranchError",
    "ChoicesDecision",
    "ChoicesSamplingMethod",
    "CompiledFunction",
    "GenerationAborted",
    "GenerationError",
    "GenerationTimeout",
    "ProgramState",
    "ProgramStateGroup",
    "PromptTooLong",
    "SglArgument",
    "SglConstantText",
    "SglExpr",
    "SglExprList",
    "SglFork",
    "SglFunction",
    "SglGen",
    "SglImage",
    "SglRoleBegin",
    "SglRoleEnd",
    "SglSelect",
    "SglVarScopeBegin",
    "SglVarScopeEnd",
    "SglVariable",
    "Trace",
    "TraceError",
    "UnknownVariable",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "finish_run",
    "finish_run_async",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_default_backend",
    "greedy_token_selection",
    "image",
    "load_state",
    "select",
    "set_default_backend",
    "start_state",
    "system",
    "system_begin",
    "system_end",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
    "video",
    "wait_run",
]
