"""What is in the wheel, and that it works in an empty environment somewhere else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import sglnb as sgl, sglnb, sglnb.kernels.bitmask, sglnb.viz
assert "site-packages" in sglnb.__file__, sglnb.__file__
from sglnb.viz.widget import RunView
assert RunView._esm.endswith("export default view;\\n")

@sgl.function
def qa(s):
    s += sgl.user("What is the capital of Italy?")
    s += sgl.assistant(sgl.gen("answer", max_tokens=32, temperature=0))

print(qa.run()["answer"])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # what an older build left would be packed
    options = ["-q", "--no-deps", "--no-build-isolation", "-w", folder]
    command = [sys.executable, "-m", "pip", "wheel", *options, ROOT]
    subprocess.run(command, check=True, timeout=250, capture_output=True)
    return next(folder.glob("sglnb-*.whl"))


def test_the_wheel_holds_model_javascript_and_kernels(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "sglnb/assets/sgl-tiny/model.safetensors" in names
    assert "sglnb/assets/sgl-tiny/README.md" in names
    assert "sglnb/viz/static/view.js" in names
    assert "sglnb/kernels/bitmask.py" in names
    assert "sglnb/py.typed" in names
    assert {"sglnb/testing/scripted.py", "sglnb/lang/backend/base_backend.py"} <= names
    assert not [n for n in names if n.startswith(("tests/", "kernels/", "notebooks/"))]


def test_it_runs_from_an_environment_of_its_own(wheel, tmp_path):
    """The wheel alone is new there; what it depends on is borrowed from this environment."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    pure = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    target = subprocess.check_output([python, "-c", pure], text=True).strip()
    here = subprocess.check_output([sys.executable, "-c", pure], text=True).strip()
    zipfile.ZipFile(wheel).extractall(target)
    code = f"import sys; sys.path.append({here!r})\n{PROGRAM}"
    done = subprocess.run(
        [python, "-I", "-c", code],  # PYTHONPATH must not lend it another sglnb
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "The capital of Italy is Rome."
