"""English plurals: of a noun, and what a word may be the plural of."""

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
# An ending of plurals -> what may stand there in the singular.
_ENDINGS = (("ies", ("y",)), ("ves", ("f", "fe")), ("es", ("",)), ("s", ("",)))


def plural(noun: str) -> str:
    """The regular plural of a noun."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def singulars(word: str) -> tuple[str, ...]:
    """The word itself, and all that it may be the plural of: "ties" of "ty", "ti" or "tie".

    Of several words the last is the one that counts: "policemen" is not known, "police men" is.
    """
    rest, space, last = word.rpartition(" ")
    found = [word]
    if last in _IRREGULAR:
        found.append(f"{rest}{space}{_IRREGULAR[last]}")
    for ending, instead in _ENDINGS:
        if len(last) > len(ending) and last.endswith(ending) and not last.endswith("ss"):
            found += [word.removesuffix(ending) + letters for letters in instead]
    return tuple(found)
