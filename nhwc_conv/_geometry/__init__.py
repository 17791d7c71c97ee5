"""Sizes of a convolution: the only size formulas in Python, and every check of an argument.

`texts` holds what errors say, `sizes` the formulas, `checks` turns the ops' arguments into a Geometry
(RuntimeError), `transposed` those of a transposed convolution, `arguments` normalises what Python constructors
are given (ValueError).
"""

from .arguments import as_pair, as_sides, padding_argument
from .checks import Geometry, check_tensors, check_winograd, forward_geometry, input_geometry, weight_geometry
from .sizes import EXPLICIT, SAME, SAME_LOWER, four_sides, same_sides
from .transposed import transposed_geometry

__all__ = [
    "EXPLICIT", "SAME", "SAME_LOWER", "Geometry", "as_pair", "as_sides", "check_tensors",
    "check_winograd", "forward_geometry", "four_sides", "input_geometry", "padding_argument", "same_sides",
    "transposed_geometry", "weight_geometry",
]  # fmt: skip
