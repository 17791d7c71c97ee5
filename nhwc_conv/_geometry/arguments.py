"""What users give, in the form that the ops take. Wrong types raise TypeError, everything else wrong ValueError."""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple, TypeAlias

from torch import SymInt, Tensor

from .checks import check_dense
from .sizes import EXPLICIT, SAME, SAME_LOWER, four_sides, two

PADDING_STRINGS = {"valid": EXPLICIT, "same": SAME, "same_lower": SAME_LOWER}
# stride, padding, dilation, groups, auto_pad
OpGeometry: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int]"


def require_tensors(x: Any, w: Any, bias: Any, residual: Any = None) -> None:
    """TypeError unless all are tensors, RuntimeError unless they are dense; the last two may be None."""
    for name, value in (("x", x), ("w", w), ("bias", bias), ("residual", residual)):
        if not isinstance(value, Tensor) and (name in ("x", "w") or value is not None):
            raise TypeError(f"expected {name} to be a Tensor, but got {name} of type {type(value).__name__}")
    check_dense(x=x, w=w, bias=bias, residual=residual)


def as_int(name: str, value: Any) -> int:
    """An integer of any kind, NumPy's and tensors of one element included. TypeError otherwise."""
    try:
        return _index(value)
    except TypeError:
        raise TypeError(f"expected {name} to be an int, but got {name}={value!r}") from None


def as_ints(name: str, value: Any) -> tuple[int, ...]:
    """(n, n) of an integer n, a sequence of integers as a tuple. TypeError otherwise."""
    try:
        if not isinstance(value, (tuple, list)):
            try:
                return (_index(value),) * 2
            except TypeError:
                pass
        return tuple([_index(v) for v in value])
    except TypeError:
        raise TypeError(
            f"expected {name} to be an int or a tuple of ints, but got {name}={value!r}{_hint(name, value)}"
        ) from None


def op_geometry(stride: Any, padding: Any, dilation: Any, groups: Any, auto_pad: int) -> OpGeometry:
    """The geometry of an op in plain and symbolic ints."""
    steps = as_ints("stride", stride), as_ints("padding", padding), as_ints("dilation", dilation)
    return *steps, as_int("groups", groups), auto_pad


def as_pair(name: str, value: Any) -> tuple[int, int]:
    """(h, w) of an int, (n,) or a pair."""
    values = as_ints(name, value)
    if len(values) not in (1, 2):
        raise ValueError(f"expected {name} to be an int or a pair of ints, but got {name}={value!r}")
    return two(values)


class Sides(NamedTuple):
    """What is left out around the result of a transposed layer, where torch.nn's has no such padding."""

    top: int
    bottom: int
    left: int
    right: int


def as_sides(padding: Any) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of an int, (n,), (h, w) or (top, bottom, left, right)."""
    values = as_ints("padding", padding)
    if len(values) not in (1, 2, 4):
        raise ValueError(
            f"expected padding to be an int, (h, w) or (top, bottom, left, right), "
            f"but got padding={padding!r}"
        )
    return four_sides(values)


def padding_argument(padding: Any) -> tuple[Any, int]:
    """(padding, auto_pad) for the ops, from a padding string in any case or anything else as it is."""
    if not isinstance(padding, str):
        return padding, EXPLICIT
    auto_pad = PADDING_STRINGS.get(padding.lower())
    if auto_pad is None:
        raise ValueError(
            f"Invalid padding string: padding={padding!r}; valid ones are {', '.join(PADDING_STRINGS)}"
        )
    return 0, auto_pad


def _hint(name: str, value: Any) -> str:
    """JAX's padding ((top, bottom), (left, right)) in the form that is taken here."""
    try:
        (top, bottom), (left, right) = value
        sides = tuple(_index(side) for side in (top, bottom, left, right))
    except (TypeError, ValueError):
        return ""
    return f"; write that as (top, bottom, left, right) = {sides}" if name == "padding" else ""


def _index(value: Any) -> int:
    # index() would fix a symbolic int at the value that it has while a graph is made.
    # torch's annotations, too, call a symbolic int an int.
    return value if isinstance(value, (int, SymInt)) else index(value)  # type: ignore[return-value]
