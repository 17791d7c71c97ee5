"""Which results of a program's steps stand side by side in the channels of what they are concatenated to.

So convolutions write them where they are read, and nothing is copied: csrc/binding/joined_images.h.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


class Homes:
    """The homes of the tensors of a program: concatenations, and the channels of these at which they begin.

    `of` has them by the places of the tensors.

    Args:
        parts: of each concatenation, by its place, the places of what it concatenates.
        channels: of each place the number of channels; None where that is not known.
        movable: places of results that can be written anywhere: those of convolutions and concatenations.
    """

    def __init__(
        self,
        parts: Mapping[int, Sequence[int]],
        channels: Sequence[int | None],
        movable: Collection[int],
    ) -> None:
        self.channels, self.movable = channels, movable
        self.of: dict[int, tuple[int, int]] = {}
        self.standing: dict[tuple[int, int], int] = {}  # what stands in a home, by where it begins
        # The last first: where each has what those before it have, that is the largest.
        for place in sorted(parts, reverse=True):
            if place in movable and all(channels[part] is not None for part in parts[place]):
                self._settle(place, parts[place])

    def _settle(self, place: int, parts: Sequence[int]) -> None:
        starts, end = [], 0
        for part in parts:
            starts.append(end)
            end += self.channels[part] or 0
        home = self.of.get(place) or self._shared(parts, starts)
        owner, base = home or (place, 0)
        moved = [
            part for part in parts if part in self.movable and part not in self.of and parts.count(part) == 1
        ]
        if home is None and not moved:
            return
        for part, start in zip(parts, starts, strict=True):
            if part in moved:
                self.of[part] = owner, base + start
            self.standing.setdefault((owner, base + start), part)
        self.of[place] = owner, base

    def _shared(self, parts: Sequence[int], starts: Sequence[int]) -> tuple[int, int] | None:
        """Where all of these stand side by side already."""
        settled = [(part, start) for part, start in zip(parts, starts, strict=True) if part in self.of]
        if not settled:
            return None
        part, start = settled[0]
        owner, at = self.of[part]
        base = at - start
        stand = all(self.standing.get((owner, base + s)) == p for p, s in zip(parts, starts, strict=True))
        return (owner, base) if base >= 0 and stand else None
