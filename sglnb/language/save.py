"""States as JSON: to go on with a conversation in another kernel, or to keep it beside a paper.

The file has the text, messages, images (as ``data:`` URIs) and variables to be read by anyone,
and the checkpoints, so that ``at``, ``before`` and ``undo`` work on what was loaded.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SglError
from ..runtime.images import Image, load_image
from .checkpoints import START, Checkpoint, Write
from .errors import GenerationAborted, GenerationError, GenerationTimeout, PromptTooLong, one_line
from .images import Placed, for_api, placeholder
from .run import open_run
from .sampling import check

if TYPE_CHECKING:
    from .backend import Backend
    from .executor import StreamExecutor

VERSION = 1
KINDS = {
    kind.__name__: kind
    for kind in (GenerationError, GenerationAborted, GenerationTimeout, PromptTooLong)
}


# -- saving --------------------------------------------------------------------------------


def save(ex: StreamExecutor, path: str | os.PathLike[str] | None) -> str:
    """``ex``, in which nothing is going on, as JSON; written to ``path``, too, if one is given.

    Raises:
        ValueError: something is no JSON; the variable is named.
    """
    with ex.lock:
        points = list(reversed(list(ex.tip.back())))
        last = {write.name: point for point in points for write in point.writes}
        record = {
            "sglnb_state": VERSION,
            "model": ex.run.backend.model_name,
            "text": ex.text_,
            "messages": [for_api(message) for message in ex.messages_],
            "variables": _checked("variable", ex.variables),
            "meta_info": _checked("meta_info of variable", ex.meta_info),
            "images": [[p.start, p.stop, p.image.data_url] for p in ex.images],
            "options": _checked("option", ex.defaults),
            "checkpoints": [_point(point, last) for point in points],
            "error": _error(ex.error_),
        }
    text = json.dumps(record, ensure_ascii=False, indent=1)
    if path is not None:
        Path(path).expanduser().write_bytes(text.encode("utf-8", "surrogatepass"))
    return text


def _checked(what: str, values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        _check(f"save: {what} {name!r}", value)
    return values


def _check(where: str, value: Any) -> None:
    """ValueError unless ``value`` comes back from JSON as it is (tuples: as lists)."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r:.60}; in JSON only strings are keys")
            _check(where, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(where, item)
    elif value is not None and type(value) not in (str, int, float, bool):
        raise ValueError(
            f"{where} holds {type(value).__name__} {value!r:.60}, which JSON cannot; set it to "
            "text, numbers, lists or dicts first"
        )


def _point(point: Checkpoint, last: dict[str, Checkpoint]) -> dict[str, Any]:
    """A checkpoint without what is as at the beginning. Values that are still those of the
    variables are not written twice."""
    out: dict[str, Any] = {"text": point.text, "messages": point.messages}
    if point.role != START.role:
        out["role"] = list(point.role)
    if point.lost is not point.before.lost:
        out["lost"] = {name: _error(error) for name, error in point.lost.items()}
    if point.writes:
        out["writes"] = [
            [w.name] if last[w.name] is point else _checked_write(w) for w in point.writes
        ]
    for field in ("scopes", "first", "depth", "name", "opened"):
        if getattr(point, field) != getattr(START, field):
            out[field] = getattr(point, field)
    if point.error is not None:
        out["error"] = _error(point.error)
    return out


def _checked_write(write: Write) -> list[Any]:
    _check(f"save: an earlier value of variable {write.name!r}", write.value)
    _check(f"save: an earlier meta_info of variable {write.name!r}", write.meta_info)
    return [write.name, write.value, write.meta_info]


def _error(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    if not isinstance(error, GenerationError):  # what a body raised
        return {"kind": "GenerationError", "message": f"the program failed: {one_line(error)}"}
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "name": error.name,
        "where": list(error.where) if error.where is not None else None,
        "cause": one_line(error.cause),
    }


# -- loading -------------------------------------------------------------------------------


def load(source: str | os.PathLike[str], backend: Backend | None) -> StreamExecutor:
    """The state that :func:`save` made, in a run of its own or the one that is going on.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no saved state, damaged, of a
            newer version, or has images that ``backend`` cannot take.
    """
    record = _read(source)
    try:
        text, options = _typed(record, "text", str), _typed(record, "options", dict)
        images = [Placed(a, b, load_image(url)) for a, b, url in _typed(record, "images", list)]
        messages = [_message(message) for message in _typed(record, "messages", list)]
        tip = _chain(record)
        if (tip.text, tip.messages) != (len(text), len(messages)):
            raise ValueError("the last checkpoint is not that of the text")
        error = _load_error(record["error"], None)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise ValueError(f"source: the saved state is damaged: {one_line(problem)}") from None
    check(options)
    run, own = open_run("loaded state", backend, None, {})
    mark = placeholder(run.backend)
    if any(text[image.start : image.stop] != mark or not mark for image in images):
        raise ValueError(
            f"source: has images, which {run.backend.model_name} does not take as "
            f"{record.get('model')} did; give the backend that it was made with"
        )
    ex = run.new_executor(options, label="loaded")
    ex.text_, ex.images, ex.messages_ = text, images, messages
    ex.go_back(tip)
    ex.error_ = error
    ex.role_is_old = ex.cur_role is not None
    if own:
        run.finish()
    return ex


def _read(source: str | os.PathLike[str]) -> dict[str, Any]:
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"source: must be a path or the text that save() returned, got {type(source).__name__}"
        )
    text = source
    if not isinstance(source, str) or not source.lstrip().startswith("{"):
        text = Path(source).expanduser().read_bytes().decode("utf-8", "surrogatepass")
    try:
        record = json.loads(text)
    except ValueError as problem:
        raise ValueError(f"source: no JSON, or cut off: {problem}") from None
    if not isinstance(record, dict) or "sglnb_state" not in record:
        raise ValueError("source: is JSON, but not a state saved by sglnb")
    version = record["sglnb_state"]
    if version != VERSION:
        raise ValueError(
            f"source: is of version {version!r}, this sglnb reads version {VERSION}; "
            "use the sglnb that it was saved with, or a newer one"
        )
    return record


def _typed(record: dict[str, Any], field: str, kind: type) -> Any:
    value = record[field]
    if not isinstance(value, kind):
        raise TypeError(f"{field} is {type(value).__name__}, not {kind.__name__}")
    return value


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """The reverse of :func:`~sglnb.language.images.for_api`."""
    role, content = _typed(message, "role", str), message["content"]
    if isinstance(content, str):
        return {"role": role, "content": content}
    parts: list[str | Image] = [
        part["text"] if part["type"] == "text" else load_image(part["image_url"]["url"])
        for part in content
    ]
    return {"role": role, "content": parts}


def _chain(record: dict[str, Any]) -> Checkpoint:
    values, metas = _typed(record, "variables", dict), _typed(record, "meta_info", dict)
    tip = START
    for saved in _typed(record, "checkpoints", list):
        lengths = _typed(saved, "text", int), _typed(saved, "messages", int)
        if lengths[0] < tip.text or lengths[1] < tip.messages:
            raise ValueError("a checkpoint lies before the one before it")
        role, start, suffix = saved.get("role", START.role)
        lost = {n: _load_error(e, n) for n, e in saved["lost"].items()} if "lost" in saved else None
        tip = Checkpoint(
            tip,
            *lengths,
            (role, start, suffix),
            dict(saved.get("scopes", {})),
            lost if lost is not None else tip.lost,
            saved.get("first", False),
            saved.get("depth", 0),
            saved.get("name"),
            saved.get("opened"),
            tuple(
                Write(*write) if len(write) > 1 else Write(name, values[name], metas.get(name))
                for write in saved.get("writes", [])
                for name in write[:1]
            ),
            _load_error(saved.get("error"), None),
        )
    if list(tip.variables()[0]) != list(values):
        raise ValueError("the checkpoints do not have the variables")
    return tip


def _load_error(saved: dict[str, Any] | None, name: str | None) -> GenerationError | None:
    if saved is None:
        return None
    where = saved.get("where")
    return KINDS[saved["kind"]](
        saved["message"],
        name=saved.get("name", name),
        where=tuple(where) if where is not None else None,
        cause=SglError(saved.get("cause", saved["message"])),
    )
