"""The exceptions that users meet."""


class SglError(Exception):
    """Base of sglnb's own exceptions."""


class ConstraintError(SglError, ValueError):
    """A regex or another constraint cannot be used as written, or a text does not meet it."""


class ContextLengthError(SglError, ValueError):
    """The prompt does not fit in the model's context or in the KV pool."""


class RequestAborted(SglError):
    """The generation was stopped before its end; the text so far is kept."""


class EngineError(SglError, RuntimeError):
    """The engine cannot serve: it was shut down, or a step failed."""
