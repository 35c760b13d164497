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
from .backend import Backend, get_default_backend, set_default_backend
from .calls import Call
from .cell import finish_run, start_state, wait_run
from .choices import (
    ChoicesDecision,
    ChoicesSamplingMethod,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from .compiled import CompiledFunction
from .errors import BranchError, GenerationAborted, GenerationError, UnknownVariable
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
from .tool_text import describe_tools, tool_schema
from .trace_graph import Trace
from .trace_node import TraceError
from .typed_expression import Expression

__all__ = [
    "Backend",
    "BranchError",
    "Call",
    "ChoicesDecision",
    "ChoicesSamplingMethod",
    "CompiledFunction",
    "Expression",
    "GenerationAborted",
    "GenerationError",
    "ProgramState",
    "ProgramStateGroup",
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
    "describe_tools",
    "finish_run",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_default_backend",
    "greedy_token_selection",
    "image",
    "select",
    "set_default_backend",
    "start_state",
    "system",
    "system_begin",
    "system_end",
    "token_length_normalized",
    "tool_schema",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
    "video",
    "wait_run",
]
