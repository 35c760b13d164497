"""The expressions, and the patterns of ``gen(dtype=)``."""

from ..language.ir import (
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
from ..language.program import SglFunction
from ..language.sampling import DTYPE_REGEX
from ..language.sgl_params import SglSamplingParams

REGEX_INT = DTYPE_REGEX["int"]
REGEX_FLOAT = DTYPE_REGEX["float"]
REGEX_BOOL = DTYPE_REGEX["bool"]
REGEX_STR = DTYPE_REGEX["str"]

__all__ = [
    "REGEX_BOOL",
    "REGEX_FLOAT",
    "REGEX_INT",
    "REGEX_STR",
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
]
