"""A real JupyterLab (and Notebook 7) in a real Chromium, on the loopback address only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Lab:
    """A running server, the folder it serves, and the one in which it looks for kernels."""

    def __init__(self, url: str, folder: Path, shots: Path, kernels: Path):
        self.url, self.folder, self.shots, self.kernels = url, folder, shots, kernels

    def add_kernel(self, name: str, environment: dict[str, str]) -> None:
        """Offer a kernel of this Python under ``name``."""
        spec = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": name, "language": "python", "env": environment,
        }  # fmt: skip
        (self.kernels / name).mkdir(parents=True, exist_ok=True)
        (self.kernels / name / "kernel.json").write_text(json.dumps(spec))

    def notebook(self, name: str, cells: list[str], kernel: str = "python3") -> str:
        """Write a notebook; returns its name."""
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": kernel, "display_name": kernel}},
        )
        nbformat.write(made, self.folder / name)
        return name

    def end_kernels(self) -> None:
        """Shut all sessions down."""
        with urllib.request.urlopen(f"{self.url}/api/sessions") as reply:
            sessions = json.load(reply)
        for session in sessions:
            request = urllib.request.Request(
                f"{self.url}/api/sessions/{session['id']}", method="DELETE"
            )
            urllib.request.urlopen(request).close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    shots = Path(os.environ.get("SGLNB_SHOTS", folder / "shots"))
    shots.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = dict(os.environ)
    for kind in ("CONFIG", "DATA", "RUNTIME"):  # nobody's own settings or extensions
        environment[f"JUPYTER_{kind}_DIR"] = str(tmp_path_factory.mktemp(kind.lower()))
    settings = tmp_path_factory.mktemp("settings")
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(settings)
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')  # the question covers what we look at
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--ServerApp.disable_check_xsrf=True",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            f"--ServerApp.root_dir={folder}",
        ],
        stdout=log,
        stderr=log,
        env=environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/api/status"):
                break
            if server.poll() is not None:
                break
            time.sleep(0.1)
        else:
            server.kill()
        if server.poll() is not None:
            pytest.fail("JupyterLab did not start:\n" + (folder / "server.log").read_text())
        yield Lab(url, folder, shots, Path(environment["JUPYTER_DATA_DIR"]) / "kernels")
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture
def page(browser, lab, request) -> Iterator[Page]:
    """A fresh page. A dialog or an error of the page's own is a failure."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    dialogs: list[str] = []

    def seen(dialog) -> None:
        if dialog.type != "beforeunload":
            dialogs.append(dialog.message)
        dialog.accept()

    page.on("dialog", seen)
    yield page
    page.screenshot(path=lab.shots / f"last-{request.node.originalname}.png")
    context.close()
    lab.end_kernels()
    assert not dialogs, f"a script ran: {dialogs}"


APPS = {"lab": "lab/tree/{}?reset", "notebook": "notebooks/{}"}


class Notebook:
    """A notebook that is open in JupyterLab, or in Notebook 7."""

    def __init__(self, page: Page, lab: Lab, name: str, kernel: bool = True, app: str = "lab"):
        self.page = page
        page.goto(f"{lab.url}/{APPS[app].format(name)}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        if kernel:
            page.wait_for_selector(
                '.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached"
            )

    def start(self, index: int) -> None:
        """Run cell ``index`` and return once it has begun."""
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)
        for _ in range(20):  # right after opening, Lab may ask something, or drop the command
            for accept in self.page.locator(".jp-Dialog .jp-mod-accept").all():
                accept.click()
            cell.locator(".cm-content").click()
            self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell') }")
            self.page.wait_for_timeout(250)
            if "[ ]" not in cell.locator(".jp-InputPrompt").inner_text():
                return
        pytest.fail(f"cell {index} does not start")

    def run(self, index: int) -> str:
        """Run cell ``index`` to its end; returns the text of its outputs."""
        self.start(index)
        self.wait(index)
        return self.output(index).inner_text()

    def wait(self, index: int) -> None:
        self.page.wait_for_function(
            """index => /\\[\\d+\\]/.test(document.querySelectorAll(
                '.jp-Notebook .jp-CodeCell')[index].querySelector('.jp-InputPrompt').innerText)""",
            arg=index,
        )

    def busy(self, index: int) -> bool:
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)
        return "[*]" in cell.locator(".jp-InputPrompt").inner_text()

    def output(self, index: int):
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)
        return cell.locator(".jp-Cell-outputArea")

    def save(self) -> None:
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")


@pytest.fixture
def open_notebook(page, lab):
    """Open a notebook by its name."""
    return lambda name, kernel=True, app="lab": Notebook(page, lab, name, kernel, app)


@pytest.fixture(scope="session")
def notebook_class():
    """For tests that hold a page for longer than one of them."""
    return Notebook
