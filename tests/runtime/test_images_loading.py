"""Images from everywhere, and what is said of those that are none."""

from __future__ import annotations

import base64
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from vision_checkpoints import picture

from sglnb.runtime import images
from sglnb.runtime.images import load_image


def encoded(image, form="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


PNG = encoded(picture(1))


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/redirect"):
            self.send_response(302)
            to = "file:///etc/passwd" if "file" in self.path else "/cat.png"
            self.send_header("Location", to)
            self.end_headers()
            return
        if self.path == "/missing.png":
            self.send_error(404, "Not here")
            return
        self.send_response(200)
        self.end_headers()
        try:
            if self.path == "/slow.png":
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
            elif self.path == "/silent.png":
                time.sleep(1)
            else:
                self.wfile.write(b"<html>" if self.path == "/page.html" else PNG)
        except OSError:
            pass  # the client has gone

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_source_gives_the_same_image(tmp_path, url):
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    text = base64.b64encode(PNG).decode()
    files = [path, str(path), f"{url}/cat.png", f"{url}/redirect"]
    raw = [PNG, bytearray(PNG), memoryview(PNG), text, f"data:image/png;base64,{text}"]
    pixels = [picture(1), np.asarray(picture(1)), np.asarray(picture(1)) / 255]
    own = load_image(picture(1))
    sources = [*files, *raw, *pixels, own, own.data_url]
    assert len({load_image(source).digest for source in sources}) == 1


def test_pixels_and_size_make_the_digest():
    flat = np.zeros((4, 6, 3), np.uint8)
    other = flat.copy()
    other[3, 5, 2] = 1
    shapes = [flat, other, flat.reshape(6, 4, 3), flat.reshape(2, 12, 3)]
    assert len({load_image(shape).digest for shape in shapes}) == 4


def test_modes_become_rgb():
    rgb = np.asarray(load_image(picture(1).convert("RGBA")).pil)
    assert (rgb == np.asarray(picture(1))).all()
    grey = np.asarray(picture(1))[..., 0]
    assert load_image(grey).digest == load_image(grey[..., None]).digest
    assert load_image(Pillow.fromarray(grey)).digest == load_image(grey).digest
    assert np.asarray(load_image(np.eye(3, dtype=bool)).pil)[0, 0].tolist() == [255] * 3


def test_a_photograph_is_turned_as_its_exif_says():
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert load_image(encoded(picture(1, 40, 32), "JPEG", exif=exif)).pil.size == (32, 40)


def test_the_users_image_is_copied():
    mine = picture(1)
    image = load_image(mine)
    mine.putpixel((0, 0), (1, 2, 3))
    assert image.pil.getpixel((0, 0)) != (1, 2, 3)


def test_mistakes_name_the_argument(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("no image")
    broken = tmp_path / "half.png"
    broken.write_bytes(PNG[: len(PNG) // 2])
    cases = [
        ("cat.png", "no file 'cat.png'"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (text, "is no image that Pillow can read"),
        (str(broken), "is a broken image"),
        (b"", "is no image"),
        ("x" * 5000, "no file"),
        ("a\0b", "no file"),
        ("QUJD" * 100, "is no image"),
        ("data:image/png,abc", "must read 'data:image/png;base64"),
        ("data:image/png;base64,&&&", "base64 text is broken"),
        ("ftp://host/cat.png", "must be http or https"),
        ("file:///etc/passwd", "must be http or https"),
        (7, "got int"),
        (None, "got NoneType"),
        (np.zeros((2, 2, 2), np.uint8), r"got shape \[2, 2, 2\]"),
        (np.zeros((0, 2, 3), np.uint8), "is empty"),
        (np.zeros((2, 2, 3), np.int64), "got int64"),
        (np.full((2, 2, 3), 2.0), "from 0 to 1"),
        (np.full((2, 2, 3), np.nan), "from 0 to 1"),
    ]
    for source, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            load_image(source, "image_data[3]")
        assert str(caught.value).startswith("image_data[3]: ")
        assert len(str(caught.value)) < 300


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 40 * 32 - 1)
    with pytest.raises(ValueError, match="more than 1,279 pixels"):
        load_image(PNG)


def test_urls_that_fail(url, monkeypatch):
    monkeypatch.setattr(images, "FETCH_SECONDS", 0.3)
    for path, message in [
        ("missing.png", "the server answered 404 Not here"),
        ("page.html", "is no image"),
        ("slow.png", "longer than 0.3 s"),
        ("silent.png", "longer than 0.3 s"),
        ("redirect-to-file", "cannot be fetched"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_image(f"{url}/{path}")
    with pytest.raises(ValueError, match="cannot be fetched"):
        load_image("http://127.0.0.1:1/cat.png")
    with pytest.raises(ValueError, match="cannot be fetched"):
        load_image("http://")
    monkeypatch.setattr(images, "FETCH_BYTES", 1000)
    with pytest.raises(ValueError, match="larger than"):
        load_image(f"{url}/cat.png")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM"]),
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_are_images_or_told(form, cut, flips):
    raw = bytearray(FORMS[form])
    for at, value in flips:
        raw[at % len(raw)] = value
    try:
        found = load_image(bytes(raw[: max(1, cut)])).pil.mode
    except ValueError as error:
        found = str(error)
    assert found == "RGB" or found.startswith("image: ")


FORMS = {
    form: encoded(picture(1, 16, 16), form)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM")
}
