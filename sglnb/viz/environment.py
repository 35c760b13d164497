"""Where the code runs."""

from __future__ import annotations

import sys


def in_notebook() -> bool:
    """Whether a front end that can show widgets may be listening: an IPython *kernel*.

    False in a terminal, under IPython in a terminal and in scripts.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
