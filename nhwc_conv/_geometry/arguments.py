"""Arguments of Python constructors and strings, normalised. Everything wrong raises ValueError."""

from .sizes import EXPLICIT, SAME, SAME_LOWER, four_sides

PADDING_STRINGS = {"valid": EXPLICIT, "same": SAME, "same_lower": SAME_LOWER}


def as_pair(name, value) -> tuple[int, int]:
    """(h, w) of an int or a pair. ValueError otherwise."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    if len(values) != 2 or not all(isinstance(v, int) for v in values):
        raise ValueError(f"expected {name} to be an int or a pair of ints, but got {name}={value!r}")
    return values


def as_sides(padding) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of an int, (h, w) or (top, bottom, left, right). ValueError otherwise."""
    values = (padding, padding) if isinstance(padding, int) else tuple(padding)
    if len(values) not in (2, 4) or not all(isinstance(v, int) for v in values):
        raise ValueError(
            f"expected padding to be an int, (h, w) or (top, bottom, left, right), "
            f"but got padding={padding!r}"
        )
    return four_sides(values)


def padding_argument(padding):
    """(padding, auto_pad) for the ops, from a padding string in any case or anything else as it is."""
    if not isinstance(padding, str):
        return padding, EXPLICIT
    auto_pad = PADDING_STRINGS.get(padding.lower())
    if auto_pad is None:
        raise ValueError(
            f"Invalid padding string: padding={padding!r}; valid ones are {', '.join(PADDING_STRINGS)}"
        )
    return 0, auto_pad
