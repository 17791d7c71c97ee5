"""Sizes of a convolution: the only size formulas in Python, and every check of an argument.

`texts` holds what errors say, `sizes` the formulas, `checks` turns the ops' arguments into a Geometry
(RuntimeError), `arguments` normalises those of Python constructors (ValueError).
"""

from .arguments import as_pair, as_sides, padding_argument
from .checks import Geometry, check_tensors, check_winograd, forward_geometry, input_geometry, weight_geometry
from .sizes import EXPLICIT, SAME, SAME_LOWER, four_sides, same_sides

__all__ = [
    "EXPLICIT", "SAME", "SAME_LOWER", "Geometry", "as_pair", "as_sides", "check_tensors",
    "check_winograd", "forward_geometry",
    "four_sides", "input_geometry", "padding_argument", "same_sides", "weight_geometry",
]  # fmt: skip
