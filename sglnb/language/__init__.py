"""What a program says: SGLang's frontend language."""

from .api import (
    assistant,
    assistant_begin,
    assistant_end,
    gen,
    gen_int,
    gen_string,
    select,
    system,
    system_begin,
    system_end,
    user,
    user_begin,
    user_end,
)
from .backend import Backend, get_default_backend, set_default_backend
from .cell import finish_run, start_state, wait_run
from .choices import (
    ChoicesDecision,
    ChoicesSamplingMethod,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from .errors import BranchError, GenerationAborted, GenerationError, UnknownVariable
from .group import ProgramStateGroup
from .ir import (
    SglConstantText,
    SglExpr,
    SglExprList,
    SglFork,
    SglGen,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
)
from .program import SglFunction, function
from .state import ProgramState

__all__ = [
    "Backend",
    "BranchError",
    "ChoicesDecision",
    "ChoicesSamplingMethod",
    "GenerationAborted",
    "GenerationError",
    "ProgramState",
    "ProgramStateGroup",
    "SglConstantText",
    "SglExpr",
    "SglExprList",
    "SglFork",
    "SglFunction",
    "SglGen",
    "SglRoleBegin",
    "SglRoleEnd",
    "SglSelect",
    "SglVarScopeBegin",
    "SglVarScopeEnd",
    "SglVariable",
    "UnknownVariable",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "finish_run",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_default_backend",
    "greedy_token_selection",
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
    "wait_run",
]
