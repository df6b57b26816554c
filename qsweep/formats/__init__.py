"""The catalog of number formats: frozen values with a short name that parses back. Data only, no torch.

A format defines which numbers are representable; qsweep.rounding rounds tensors to it.
"""

from qsweep.formats.declared import BITWIDTH, COMPAT, FRACTION, ROUNDING, ROUNDINGS, SCALE, ZERO
from qsweep.formats.elements import ElementType, Floating, Grid
from qsweep.formats.family import Format
from qsweep.formats.floats import Float
from qsweep.formats.grids import Fixed, Float32, Range, Unbounded
from qsweep.formats.learned import KMeans
from qsweep.formats.names import (
    FAMILIES,
    check_rounding,
    make,
    name_of,
    parameters_of,
    parse,
    spell,
    split_name,
)
from qsweep.formats.qkeras import QKeras
from qsweep.formats.scaled import MX, NVFP4, Binary, Block, PowerOfTwo, Scaled, Ternary, Uniform

__all__ = [
    "BITWIDTH",
    "COMPAT",
    "FAMILIES",
    "FRACTION",
    "MX",
    "NVFP4",
    "ROUNDING",
    "ROUNDINGS",
    "SCALE",
    "ZERO",
    "Binary",
    "Block",
    "ElementType",
    "Fixed",
    "Float",
    "Float32",
    "Floating",
    "Format",
    "Grid",
    "KMeans",
    "PowerOfTwo",
    "QKeras",
    "Range",
    "Scaled",
    "Ternary",
    "Unbounded",
    "Uniform",
    "check_rounding",
    "make",
    "name_of",
    "parameters_of",
    "parse",
    "spell",
    "split_name",
]
