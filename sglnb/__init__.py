"""SGLang in a notebook.

Write LM programs (``import sglnb as sgl``, or ``%%sgl`` cells after ``%load_ext sglnb``), run
them on an engine that lives in a background thread of the same process, and look at the radix
tree of cached prefixes, the branches of a fork and what each token was allowed to be.
"""

from .errors import (
    ConstraintError,
    ContextLengthError,
    EngineError,
    RequestAborted,
    SglError,
)
from .events import EventLog
from .language import *  # noqa: F403  (the language's __all__ is its public list)
from .language import __all__ as _language_names
from .magics import dashboard, load_ipython_extension, unload_ipython_extension
from .runtime import (
    Engine,
    Request,
    SamplingParams,
    Simulation,
    Tokenizer,
    TraceRequest,
    default_engine,
    optimal_hit_rate,
    simulate,
)
from .runtime.constraints import compile_constraint

__version__ = "0.1.0"

__all__ = [
    "ConstraintError",
    "ContextLengthError",
    "Engine",
    "EngineError",
    "EventLog",
    "Request",
    "RequestAborted",
    "SamplingParams",
    "SglError",
    "Simulation",
    "Tokenizer",
    "TraceRequest",
    "compile_constraint",
    "dashboard",
    "default_engine",
    "load_ipython_extension",
    "optimal_hit_rate",
    "simulate",
    "unload_ipython_extension",
    *_language_names,
]
