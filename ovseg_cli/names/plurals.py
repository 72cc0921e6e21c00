"""English plurals: of a noun, and what a word may be the plural of."""

from functools import lru_cache

_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
}
_IN_VES = (  # the nouns on -f and -fe whose plural ends so; others have -fs, and caves are no cafs
    *("calf", "dwarf", "elf", "half", "hoof", "knife", "leaf", "life", "loaf", "scarf", "self"),
    *("sheaf", "shelf", "thief", "wharf", "wife", "wolf"),
)
_HISSING = ("s", "x", "z", "ch", "sh")


def plural(noun: str) -> str:
    """The regular plural of a noun."""
    if noun.endswith(_HISSING):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


@lru_cache(maxsize=1 << 16)
def singulars(phrase: str) -> tuple[str, ...]:
    """The phrase itself, and all that its last word may be the plural of, the likeliest first."""
    before, space, word = phrase.rpartition(" ")
    found = [word]
    if word in _IRREGULAR:
        found.append(_IRREGULAR[word])
    if len(word) > 1 and word.endswith("s") and not word.endswith("ss"):
        found.append(word[:-1])
        if word.endswith("ies"):
            found.append(word[:-3] + "y")
        if word.endswith("ves"):
            found += [noun for noun in (word[:-3] + "f", word[:-3] + "fe") if noun in _IN_VES]
        if word.endswith("es") and word[:-2].endswith((*_HISSING, "o")):
            found.append(word[:-2])
    return tuple(f"{before}{space}{each}" for each in found)
