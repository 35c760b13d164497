"""SGLang's module paths: a program that says ``from sglang.lang.ir import ...`` says
``from sglnb.lang.ir import ...``. What they name lives in :mod:`sglnb.language`."""
