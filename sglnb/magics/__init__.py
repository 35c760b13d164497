"""``%%sgl`` and ``%sgl``: LM programs in notebook cells."""

from .extension import load_ipython_extension, unload_ipython_extension
from .magic import SglMagics
from .run import Run
from .show import dashboard

__all__ = ["Run", "SglMagics", "dashboard", "load_ipython_extension", "unload_ipython_extension"]
