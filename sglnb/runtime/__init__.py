"""What runs a program: engine thread, scheduler, radix tree, KV pool, models, sampling."""

from .threads import bound_spinning

bound_spinning()

from .default import default_engine  # noqa: E402
from .engine import Engine, open_engines  # noqa: E402
from .request import Request  # noqa: E402
from .sampling_params import SamplingParams  # noqa: E402
from .simulate import Simulation, simulate  # noqa: E402
from .tokenizer import Tokenizer  # noqa: E402
from .trace import TraceRequest, optimal_hit_rate  # noqa: E402

__all__ = [
    "Engine",
    "Request",
    "SamplingParams",
    "Simulation",
    "Tokenizer",
    "TraceRequest",
    "default_engine",
    "open_engines",
    "optimal_hit_rate",
    "simulate",
]
