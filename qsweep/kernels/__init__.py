"""The element-wise operations of training, compiled for the CPU: one pass over memory instead of up to fourteen.

The bits are those of the tensor operations that run elsewhere (tests compare them): nothing is fused, reordered or
assumed away (`fastmath` is off), and `numpy` as error model keeps IEEE division. All work in place, because a loop
whose input and output might overlap is not vectorized: 0.3 instead of 1.8 ns a value.

What belongs together goes into kernels as one NamedTuple, which callers build once: each costs a call about half a
microsecond, and numba keeps code for one by its module and name, so that it must stand in a file that can be imported.
"""
