"""Images from wherever they are: a file, a URL, base64 text, bytes, Pillow, numpy.

An image is decoded once, to RGB, and known by the SHA-256 digest of its size and pixels from then
on. Two images are the same to the cache only if all of the digest is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import io
import os
import struct
import time
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

FETCH_SECONDS = 15.0
"""How long a URL may take, from the first byte sent to the last one received."""

FETCH_BYTES = 64 * 2**20
"""Bytes that a URL may deliver."""

MOST_PIXELS = 80_000_000
"""An image with more is refused before it is decoded: a small file can hold a huge one."""

BROKEN = (
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    struct.error,
    PIL.Image.DecompressionBombError,
)
"""What Pillow raises on files that are cut off or damaged."""

KINDS = (
    "a file's path, an http(s) URL, a data: URI or base64 text, bytes, a PIL.Image or a numpy array"
)


class Image:
    """A decoded image.

    Attributes:
        pil: the RGB pixels, a copy of our own.
        digest: SHA-256 of size and pixels, 32 bytes.
        label: a short name for messages: the file's name, or the start of the digest.
    """

    def __init__(self, pil: PIL.Image.Image, label: str = ""):
        self.pil = pil
        hashed = hashlib.sha256(f"RGB {pil.width}x{pil.height} ".encode())
        hashed.update(pil.tobytes())
        self.digest = hashed.digest()
        self.label = label or self.digest.hex()[:8]

    @cached_property
    def data_url(self) -> str:
        """The image as a ``data:`` URI (PNG), the form that OpenAI's API takes."""
        file = io.BytesIO()
        self.pil.save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

    def _repr_png_(self) -> bytes:
        return base64.b64decode(self.data_url.partition(",")[2])

    def __repr__(self) -> str:
        return f"Image({self.label}, {self.pil.width}x{self.pil.height})"


def load_image(source: Any, name: str = "image") -> Image:
    """Decode an image.

    Args:
        source: a path, an http(s) URL, a ``data:`` URI or base64 text, bytes, a ``PIL.Image``, a
            numpy array [height, width] or [height, width, 1, 3 or 4 channels] (uint8, or floats
            from 0 to 1), or an :class:`Image`, which is returned as it is.
        name: the argument that errors speak of.

    Raises:
        ValueError: there is no such file, the URL cannot be fetched, or it is no image.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, PIL.Image.Image):
        return _rgb(source, name, "")
    if isinstance(source, np.ndarray):
        return _rgb(_from_array(source, name), name, "")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), name, f"{len(source):,} bytes", "")
    if isinstance(source, os.PathLike):
        return _from_file(Path(source), name)
    if isinstance(source, str):
        return _from_text(source, name)
    raise ValueError(f"{name}: must be {KINDS}, got {type(source).__name__}")


def _from_text(text: str, name: str) -> Image:
    if text[:5].lower() == "data:":
        head, comma, body = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError(f"{name}: a data: URI must read 'data:image/png;base64,...'")
        raw = _from_base64(body)
        if raw is None:
            raise ValueError(f"{name}: the data: URI's base64 text is broken")
        return _decode(raw, name, "the data: URI", "")
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return _decode(fetch(text, name), name, repr(_short(text)), _short(text.split("/")[-1]))
    if separator and scheme.isalnum():
        raise ValueError(
            f"{name}: URLs must be http or https, got {_short(text)!r}; give a local file by path"
        )
    path = Path(text).expanduser()
    if _exists(path):
        return _from_file(path, name)
    raw = _from_base64(text) if len(text) > 64 else None
    if raw is not None:
        return _decode(raw, name, f"{_short(text)!r} (no file; read as base64 text)", "")
    raise ValueError(f"{name}: no file {_short(text)!r}; it must be {KINDS}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than any path, or with a null character
        return False


def _from_file(path: Path, name: str) -> Image:
    try:
        raw = path.expanduser().read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{name}: no file {str(path)!r}") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValueError(f"{name}: {str(path)!r} cannot be read: {why}") from error
    return _decode(raw, name, repr(str(path)), path.name)


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def fetch(url: str, name: str) -> bytes:
    """The bytes behind an http(s) URL.

    Raises:
        ValueError: it cannot be fetched, takes over :data:`FETCH_SECONDS` or is larger than
            :data:`FETCH_BYTES`.
    """
    deadline = time.monotonic() + FETCH_SECONDS
    # No handlers for ftp: or file:, which a redirect could name.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "sglnb"})
        with opener.open(request, timeout=FETCH_SECONDS) as reply:
            out = bytearray()
            while part := reply.read1(2**16):
                out += part
                if len(out) > FETCH_BYTES:
                    raise ValueError(
                        f"{name}: {_short(url)!r} is larger than {FETCH_BYTES // 2**20} MiB; "
                        "download it yourself and pass a smaller image"
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError
            return bytes(out)
    except urllib.error.HTTPError as error:
        why = f"the server answered {error.code} {error.reason}"
    except TimeoutError:
        why = f"it takes longer than {FETCH_SECONDS:g} s"
    except urllib.error.URLError as error:
        slow = isinstance(error.reason, TimeoutError)
        why = f"it takes longer than {FETCH_SECONDS:g} s" if slow else str(error.reason)
    except (OSError, http.client.HTTPException) as error:
        why = f"{type(error).__name__}: {error}"
    raise ValueError(f"{name}: {_short(url)!r} cannot be fetched: {why}")


def _decode(raw: bytes, name: str, what: str, label: str) -> Image:
    try:
        pil = PIL.Image.open(io.BytesIO(raw))
    except PIL.UnidentifiedImageError:
        raise ValueError(f"{name}: {what} is no image that Pillow can read") from None
    except BROKEN as error:
        raise ValueError(f"{name}: {what} is a broken image: {error}") from error
    with pil:
        return _rgb(pil, name, label, what)


def _rgb(pil: PIL.Image.Image, name: str, label: str, what: str = "the picture") -> Image:
    """An :class:`Image` with the pixels of ``pil``, turned as its EXIF data says."""
    if pil.width * pil.height > MOST_PIXELS:
        raise ValueError(
            f"{name}: {pil.width} x {pil.height} are more than {MOST_PIXELS:,} pixels; make it "
            "smaller first"
        )
    if not pil.width or not pil.height:
        raise ValueError(f"{name}: the image is empty ({pil.width} x {pil.height} pixels)")
    try:
        rgb = PIL.ImageOps.exif_transpose(pil).convert("RGB")
    except BROKEN as error:
        raise ValueError(f"{name}: {what} is a broken image: {error}") from error
    return Image(rgb, label)


def _from_array(array: np.ndarray, name: str) -> PIL.Image.Image:
    channels = 1 if array.ndim == 2 else array.shape[-1] if array.ndim == 3 else 0
    if channels not in (1, 3, 4):
        raise ValueError(
            f"{name}: an array must be [height, width] or [height, width, 1, 3 or 4 channels], "
            f"got shape {list(array.shape)}"
        )
    if array.size and np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{name}: an array of floats must hold values from 0 to 1")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8:
        raise ValueError(f"{name}: an array must be of uint8 or floats, got {array.dtype}")
    if not array.size:
        raise ValueError(f"{name}: the array is empty, its shape is {list(array.shape)}")
    return PIL.Image.fromarray(array[..., 0] if array.ndim == 3 and channels == 1 else array)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
