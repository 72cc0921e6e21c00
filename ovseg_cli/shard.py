"""Dividing the inputs among machines."""

from dataclasses import dataclass
from hashlib import sha256

from ovseg_cli.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """The index-th of count disjoint parts of the inputs, for several machines at once.

    An input belongs to the part that a hash of its REL says, so that parts stay disjoint when
    the folder grows meanwhile; they are about, not exactly, equal.
    """

    index: int  # 1..count
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "2/4"; raises UsageError."""
        first, slash, second = text.partition("/")
        if slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
            return cls(int(first), int(second))
        raise UsageError(f"a part is given as I/N with I from 1 to N, such as 2/4, not {text!r}")

    def holds(self, rel: str) -> bool:
        """Whether an input belongs to this part."""
        digest = sha256(rel.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"
