"""What happened: small typed events and the log that keeps them.

The log is the only source of every picture: a view is a pure fold over it
(:mod:`sglnb.viz`). Nothing here knows of torch, of the engine or of Jupyter.
"""

from .log import EventLog, Subscription
from .types import (
    CacheSnapshot,
    ConstraintCompiled,
    ConstraintUsed,
    Event,
    NodeEvicted,
    NodeHit,
    NodeInserted,
    NodeLocked,
    NodeSplit,
    Preparing,
    RequestArrived,
    RequestFinished,
    RequestMatched,
    RequestRetracted,
    RequestScheduled,
    RunEnded,
    RunStarted,
    StateEnded,
    StateForked,
    StateJoined,
    StateStarted,
    StepRan,
    TokensGenerated,
    VariableSet,
    event_from_dict,
)

__all__ = [
    "CacheSnapshot",
    "ConstraintCompiled",
    "ConstraintUsed",
    "Event",
    "EventLog",
    "NodeEvicted",
    "NodeHit",
    "NodeInserted",
    "NodeLocked",
    "NodeSplit",
    "Preparing",
    "RequestArrived",
    "RequestFinished",
    "RequestMatched",
    "RequestRetracted",
    "RequestScheduled",
    "RunEnded",
    "RunStarted",
    "StateEnded",
    "StateForked",
    "StateJoined",
    "StateStarted",
    "StepRan",
    "Subscription",
    "TokensGenerated",
    "VariableSet",
    "event_from_dict",
]
