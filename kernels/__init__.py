"""GPU kernels with their references. Each module has one operation: the function that callers
use, which takes the Triton kernel on CUDA and the torch reference elsewhere."""
