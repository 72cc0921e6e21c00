"""What the shapes of a foreign checkpoint's tensors tell about its model.

Most sizes show in several tensors. They are put to the vote, so that one misshapen tensor is found
out by the others instead of misleading them all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ovseg_cli.errors import CheckpointError


class Shapes(dict[str, tuple[int, ...]]):
    """The shapes of all tensors by name; `kind` of model that they are said to be of."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], kind: str) -> None:
        super().__init__(shapes)
        self.kind = kind

    def size(self, *places: str) -> int:
        """The size that most of these places, "tensor:dimension", tell.

        Raises CheckpointError where none of them is there.
        """
        found: Counter[int] = Counter()
        for place in places:
            name, dimension = place.split(":")
            shape = self.get(name, ())
            if int(dimension) < len(shape):
                found[shape[int(dimension)]] += 1
        if not found:
            names = ", ".join(sorted({place.split(":")[0] for place in places}))
            raise CheckpointError(
                f"not a {self.kind} checkpoint: {names} missing or without a shape to go by"
            )
        return found.most_common(1)[0][0]

    def indices(self, pattern: str) -> tuple[int, ...]:
        """The numbers that occur at a pattern's group, ascending."""
        matches = (re.match(pattern, name) for name in self)
        return tuple(sorted({int(found[1]) for found in matches if found}))

    def count(self, pattern: str) -> int:
        """How many numbers occur at a pattern's group."""
        return len(self.indices(pattern))

    def grid(self, *places: str, others: int = 1) -> int:
        """The side of the square grid of position tables whose rows "tensor:dimension" counts.

        others: rows that are no patch's, such as the class token's. Raises CheckpointError.
        """
        rows = self.size(*places)
        side = round(max(rows - others, 0) ** 0.5)
        if side < 1 or side * side + others != rows:
            more = "one and " if others else ""
            raise CheckpointError(
                f"misshapen: {places[0].split(':')[0]} has {rows} rows, not {more}those of a "
                "square grid"
            )
        return side
