"""The element-wise laws of training, compiled for the CPU: one pass over memory instead of up to fourteen.

The bits are those of the tensor operations that run elsewhere (tests compare them): nothing is fused, reordered or
assumed away (`fastmath` is off), and `numpy` as error model keeps IEEE division. All work in place, because a loop
whose input and output might overlap is not vectorized: 0.3 instead of 1.8 ns a value.

Compiled code is kept by the date of its own file, so what a kernel inlines stands in the kernel's file.
"""
