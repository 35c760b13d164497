"""The Triton kernel of :mod:`.expand`. Programs take the runs in turn."""

import triton
import triton.language as tl


@triton.jit
def expand_kernel(runs, count, out, BLOCK: tl.constexpr):
    for run in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        at = tl.load(runs + 3 * run)
        first = tl.load(runs + 3 * run + 1)
        length = tl.load(runs + 3 * run + 2)
        step = tl.num_programs(1) * BLOCK
        for start in range(tl.program_id(1) * BLOCK, length, step):
            i = start + tl.arange(0, BLOCK)
            tl.store(out + at + i, first + i, mask=i < length)
