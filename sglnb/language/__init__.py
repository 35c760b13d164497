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
    separate_reasoning,
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
from .base_backend import BaseBackend
from .calls import Call
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
    SglSeparateReasoning,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
    SglVideo,
)
from .placeholders import SglArgument
from .program import SglFunction, function
from .program_view import ProgramView
from .reasoning import ReasoningMarkers
from .role_template import RoleTemplate, get_chat_template
from .settings import Runtime, flush_cache, get_server_info, global_config
from .sgl_params import SglSamplingParams
from .state import ProgramState
from .tool_text import describe_tools, tool_schema
from .trace_graph import Trace
from .trace_node import TraceError
from .typed_expression import Expression

load_state = ProgramState.load

__all__ = [
    "AsyncProgramState",
    "AsyncProgramStateGroup",
    "Backend",
    "BaseBackend",
    "BatchInterrupted",
    "BranchError",
    "Call",
    "ChoicesDecision",
    "ChoicesSamplingMethod",
    "CompiledFunction",
    "Expression",
    "GenerationAborted",
    "GenerationError",
    "GenerationTimeout",
    "ProgramState",
    "ProgramStateGroup",
    "ProgramView",
    "PromptTooLong",
    "ReasoningMarkers",
    "RoleTemplate",
    "Runtime",
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
    "SglSamplingParams",
    "SglSelect",
    "SglSeparateReasoning",
    "SglVarScopeBegin",
    "SglVarScopeEnd",
    "SglVariable",
    "SglVideo",
    "Trace",
    "TraceError",
    "UnknownVariable",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "describe_tools",
    "finish_run",
    "finish_run_async",
    "flush_cache",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_chat_template",
    "get_default_backend",
    "get_server_info",
    "global_config",
    "greedy_token_selection",
    "image",
    "load_state",
    "select",
    "separate_reasoning",
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
