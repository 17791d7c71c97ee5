"""Sizes of a convolution: the only size formulas in Python, and every check of an argument.

`texts` holds what errors say, `sizes` the formulas, `checks` turns the ops' arguments into a Geometry
(RuntimeError), from what `operands` checks of each, `transposed` those of a transposed convolution, `rows` is about
images of one row, `arguments` normalises what users give (TypeError, ValueError).
"""

from .arguments import (
    Sides,
    as_int,
    as_ints,
    as_pair,
    as_sides,
    op_geometry,
    padding_argument,
    require_tensors,
)
from .checks import (
    Geometry,
    check_dense,
    check_devices,
    check_out_dtype,
    check_result_size,
    check_tensors,
    check_winograd,
    forward_geometry,
    input_geometry,
    weight_geometry,
)
from .rows import as_row, check_row
from .sizes import EXPLICIT, SAME, SAME_LOWER, extent, four_sides, holds, known_ints, same_sides
from .transposed import transposed_geometry

__all__ = [
    "EXPLICIT", "SAME", "SAME_LOWER", "Geometry", "Sides", "as_int", "as_ints", "as_pair", "as_row", "as_sides",
    "check_dense", "check_devices", "check_out_dtype", "check_result_size", "check_row", "check_tensors",
    "check_winograd", "extent", "forward_geometry", "four_sides", "holds", "input_geometry", "known_ints",
    "op_geometry", "padding_argument", "require_tensors", "same_sides", "transposed_geometry",
    "weight_geometry",
]  # fmt: skip
