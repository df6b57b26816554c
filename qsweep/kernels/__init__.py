"""The element-wise operations of training, compiled for the CPU: one pass over memory instead of up to fourteen.

The bits are those of the tensor operations that run elsewhere (tests compare them): nothing is fused, reordered or
assumed away (`fastmath` is off), and `numpy` as error model keeps IEEE division. All work in place, because a loop
whose input and output might overlap is not vectorized: 0.3 instead of 1.8 ns per value.

Related arguments are passed to kernels as one NamedTuple, which callers build once: each costs about half a microsecond
per call. Numba caches code by the module and name of a NamedTuple, so it must be defined in an importable file.
"""
