"""GPU kernels with their references.

Each module has one operation: the function that callers use, which takes the Triton kernel on
CUDA and the float32 torch reference elsewhere. The kernels themselves are in ``_*_triton.py``, so
that importing an operation needs no Triton.

Attention (``extend``, ``decode``, ``cascade``) reads keys and values from one layer's pool
[slots, key heads, head size] through CSR tables: ``kv_indptr`` int32 [rows + 1] and
``kv_indices`` int32 [nnz], the slot of every position of every row in order.
"""
