"""WordNet's own files (wndb(5WN)), written by hand."""

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.training.wordnet import Synset, read_nouns

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by\n"
DATA = LICENCE + "\n".join(
    [
        "00001740 03 n 01 entity 0 001 ~ 00002000 n 0000 | that which is perceived  ",
        "00002000 05 n 02 dog 0 domestic_dog 1 003 @ 00001740 n 0000 "
        '+ 00099999 v 0101 #m 00003000 n 0000 | a member of the genus Canis; "the dog barked"  ',
        "00003000 05 n 01 Rex 0 002 @i 00002000 n 0000 @ 00001740 a 0000 | a good dog  ",
        # 0x0b = 11 words
        "00004000 06 n 0b a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 k 0 000 | letters  ",
    ]
)
INDEX = LICENCE + "\n".join(
    [
        "entity n 1 1 ~ 1 1 00001740  ",
        "dog n 2 2 @ ~ 2 1 00002000 00003000  ",
        "domestic_dog n 1 1 @ 1 0 00002000  ",
    ]
)


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return tmp_path


def test_synsets_and_senses(wordnet):
    synsets, senses = read_nouns(wordnet)
    assert synsets == {
        1740: Synset(("entity",), "that which is perceived", ()),
        2000: Synset(("dog", "domestic dog"), "a member of the genus Canis", (1740,)),
        # An instance's class is a hypernym, too; pointers to other parts of speech are not.
        3000: Synset(("Rex",), "a good dog", (2000,)),
        4000: Synset(tuple("abcdefghijk"), "letters", ()),
    }
    assert senses == {"entity": (1740,), "dog": (2000, 3000), "domestic dog": (2000,)}


def test_a_folder_without_wordnet_names_the_package(tmp_path):
    with pytest.raises(UsageError, match="wordnet-base.*--set stage.wordnet=DIR"):
        read_nouns(tmp_path)
