"""A backend without a model, for tests of programs, for teaching, for measuring the language.

::

    from sglnb.testing import ScriptedBackend

    backend = ScriptedBackend({"answer": "Rome", "sure": "yes"})
    state = qa.run("What is the capital of Italy?", backend=backend)
    assert state["answer"] == "Rome"
    assert "Italy" in backend.calls[0].prompt
"""

from .replies import Failure
from .scripted import ScriptedBackend, ScriptedRequest
from .tokenizers import CharTokenizer, WordTokenizer

__all__ = ["CharTokenizer", "Failure", "ScriptedBackend", "ScriptedRequest", "WordTokenizer"]
