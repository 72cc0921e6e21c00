"""Classes shown by pictures: what is typed, what is read, and what they do."""

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg_cli import load_model
from ovseg_cli.errors import UsageError, VocabularyError
from ovseg_cli.exemplars import Exemplar, parse_exemplar, with_exemplars
from ovseg_cli.frame import Frame
from ovseg_cli.segmenter import Segmenter
from ovseg_cli.vocabulary import ClassName, Vocabulary


@pytest.fixture
def files(tmp_path, monkeypatch):
    """mug.png of 40×30 pixels; mask.png marks a part of it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save("mug.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 5:15] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(mask * 0).save("black.png")
    Image.fromarray(mask[:20]).save("small.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save("a:b.png")
    Image.fromarray(mask).save("7,8.png")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "picture", "mask", "box"),
    [
        ("my mug=mug.png", "mug.png", None, None),
        (" my mug = mug.png:mask.png", "mug.png", "mask.png", None),
        ("my mug=mug.png:5,10,20,8", "mug.png", None, (5, 10, 20, 8)),
        ("my mug=mug.png: 5, 10 ,20, 8", "mug.png", None, (5, 10, 20, 8)),
        ("my mug=a:b.png", "a:b.png", None, None),
        ("my mug=mug.png:7,8.png", "mug.png", "7,8.png", None),
    ],
)
def test_what_is_typed(files, text, picture, mask, box):
    found = parse_exemplar(text)
    assert found.name == "my mug"
    assert str(found.picture) == picture
    assert (str(found.mask) if found.mask else None) == mask
    assert found.box == box


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mug.png", "is no exemplar"),
        ("=mug.png", "is no exemplar"),
        ("mug=", "is no exemplar"),
        ("mug=absent.png", "no such picture: absent.png"),
        ("mug=mug.png:absent.png", "no such picture: absent.png"),
        ("mug=mug.png:1,2,3", 'mug: a box is X,Y,WIDTH,HEIGHT in whole pixels .*, not "1,2,3"'),
        ("mug=mug.png:-5,10,20,20", 'a box is X,Y,WIDTH,HEIGHT .*, not "-5,10,20,20"'),
        ("mug=mug.png:1.5,10,20,20", "a box is X,Y,WIDTH,HEIGHT"),
        ("mug=" + "x" * 300, "no such picture: xxx"),
        ("mug=mug.png:" + "x" * 300, "no such picture: xxx"),
        ("mug=mug.png:1,1,1," + "9" * 5000, r'not "1,1,1,999.*\.\.\."$'),
        ("mug=a\x1b[31m.png", r"no such picture: a\\x1b\[31m.png"),
        ("mug|cup=mug.png", r"mug\|cup: one name of a class, without synonyms"),
    ],
)
def test_what_cannot_be_meant(files, text, reason):
    with pytest.raises(UsageError, match=reason):
        parse_exemplar(text)


def test_where_the_class_is(files):
    inside = [
        parse_exemplar(f"mug=mug.png{part}").load()[1] for part in ("", ":mask.png", ":5,10,10,10")
    ]
    assert inside[0].all() and inside[0].shape == (30, 40)
    assert np.array_equal(inside[1], inside[2]) and inside[1].sum() == 100


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (":black.png", r"nothing of .*mug\.png \(40x30 pixels\) is marked"),
        (":100,0,5,5", r"nothing of .*mug\.png \(40x30 pixels\) is marked"),
        (":small.png", "small.png: of 40x20 pixels, the picture of 40x30"),
    ],
)
def test_marks_that_do_not_fit(files, part, reason):
    with pytest.raises(UsageError, match=reason):
        parse_exemplar(f"mug=mug.png{part}").load()


def test_the_digest_follows_the_contents(files):
    one = parse_exemplar("mug=mug.png:mask.png")
    before = one.digest()
    assert parse_exemplar("other=mug.png:mask.png").digest() == before
    Image.fromarray(np.ones((30, 40), np.uint8)).save("mask.png")
    assert one.digest() != before


def test_new_names_come_after_the_others():
    shown = [Exemplar(name, None) for name in ("mug", "cup", "mug")]
    found = with_exemplars(Vocabulary(["sky", "cup"]), shown)
    assert found.classes == (ClassName("sky"), ClassName("cup"), ClassName("mug", pictured=True))
    assert with_exemplars(None, shown).names == ("mug", "cup")


@pytest.fixture(scope="module")
def mini():
    return load_model("mini", device="cpu")


def scene(seed=0):
    """Sky-blue above, leaf-green below, with some noise: (96, 128, 3)."""
    draw = np.random.default_rng(seed)
    pixels = np.empty((96, 128, 3))
    pixels[:48], pixels[48:] = (120, 170, 230), (60, 120, 40)
    return Frame((pixels + draw.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8))


@pytest.fixture
def shown(tmp_path):
    """Pictures that show the upper and the lower part."""
    Image.fromarray(scene(1).pixels).save(tmp_path / "scene.png")
    return [
        Exemplar(name, tmp_path / "scene.png", box=box)
        for name, box in (("upper", (0, 0, 128, 48)), ("lower", (0, 48, 128, 48)))
    ]


def test_pictures_instead_of_words(mini, shown):
    vocabulary = with_exemplars(None, shown)
    labels = Segmenter(mini, vocabulary, exemplars=shown)(scene()).labels
    assert (labels[:40] == 0).mean() > 0.9
    assert (labels[56:] == 1).mean() > 0.9


def test_pictures_compete_with_words_on_equal_terms(mini, shown):
    """The words for what is there are not swamped by the picture of something else."""
    vocabulary = with_exemplars(Vocabulary(["sky"]), shown[1:])
    labels = Segmenter(mini, vocabulary, exemplars=shown[1:])(scene()).labels
    assert (labels[:40] == 0).mean() > 0.8
    assert (labels[56:] == 1).mean() > 0.8


def test_pictures_beside_words_are_one_more_synonym(mini, shown):
    vocabulary = Vocabulary(["upper|sky", "lower"])
    plain = Segmenter(mini, vocabulary)._text
    found = Segmenter(mini, vocabulary, exemplars=[*shown, shown[0]])._text
    assert found.class_of.tolist() == [0, 0, 0, 1, 1]
    torch.testing.assert_close(found.features[[0, 1, 3]], plain.features)
    assert found.features[2].norm() < 1.0


def test_a_class_that_nothing_shows(mini, shown):
    vocabulary = Vocabulary(["sky", ClassName("mug", pictured=True)])
    with pytest.raises(UsageError, match="no picture shows the class mug"):
        Segmenter(mini, vocabulary)
    with pytest.raises(UsageError, match="no class upper for its picture; there are: sky"):
        Segmenter(mini, Vocabulary(["sky"]), exemplars=shown)


def test_a_class_that_only_a_picture_shows_may_have_any_name(mini, shown):
    """It is a label, and none of the words that the model reads: CLIP's text holds 77 tokens."""
    long = " ".join(["thing"] * 200)
    with pytest.raises(VocabularyError):
        Segmenter(mini, [long])
    picture = Exemplar(long, shown[0].picture, box=shown[0].box)
    vocabulary = with_exemplars(Vocabulary(["a tree|tree", "grass"]), [picture])
    found = Segmenter(mini, vocabulary, exemplars=[picture])._text
    assert found.class_of.tolist() == [0, 0, 1, 2]
    alone = with_exemplars(None, [picture])
    torch.testing.assert_close(
        Segmenter(mini, alone, exemplars=[picture])._text.features[0], found.features[3]
    )


def test_pictures_for_one_photo_alone(mini, shown):
    vocabulary = with_exemplars(None, shown)
    found = mini.segment(scene(), vocabulary, exemplars=shown)
    assert (found.labels == Segmenter(mini, vocabulary, exemplars=shown)(scene()).labels).all()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Exemplar("upper", "scene.png"), "not Exemplar"),
        ("upper=scene.png", "not str"),
        (["upper=scene.png"], "not a list with str"),
        (None, "not NoneType"),
    ],
)
def test_exemplars_that_are_none(mini, given, reason):
    with pytest.raises(TypeError, match=rf"a list such as \[ovseg_cli.Exemplar\(.*, {reason}"):
        mini.segment(scene(), ["upper"], exemplars=given)


@pytest.mark.parametrize("kind", ["RGBA", "LA"])
def test_what_a_mask_leaves_transparent_is_outside(files, kind):
    """As of a picture that was cut out; the colour there may be any."""
    content = np.full((30, 40, len(kind)), 255, np.uint8)
    content[:20, :, -1] = 0
    Image.fromarray(content).save("cut.png")
    inside = parse_exemplar("mug=mug.png:cut.png").load()[1]
    assert not inside[:20].any() and inside[20:].all()


def test_a_mask_of_ids_in_16_bits(files):
    ids = np.zeros((30, 40), np.uint16)
    ids[:, :7] = 1
    Image.fromarray(ids).save("ids.png")
    assert np.array_equal(parse_exemplar("mug=mug.png:ids.png").load()[1], ids == 1)


def test_a_picture_may_be_told_as_text(files):
    exemplar = Exemplar("mug", "mug.png", "mask.png")
    assert exemplar == parse_exemplar("mug=mug.png:mask.png")
    assert exemplar.digest() == parse_exemplar("mug=mug.png:mask.png").digest()


@pytest.mark.parametrize("box", [(-5, 0, 100, 10), (1.5, 0, 9, 9), (1, 2, 3)])
def test_a_box_that_is_none(files, box):
    with pytest.raises(UsageError, match="exemplar of mug: a box is left, top, width and height"):
        Exemplar("mug", files / "mug.png", box=box)


def test_a_mask_and_a_box(files):
    with pytest.raises(UsageError, match="a mask or a box, not both"):
        Exemplar("mug", files / "mug.png", files / "mask.png", (0, 0, 5, 5))


@pytest.mark.parametrize("name", ["Cup", "beaker"])
def test_a_class_is_shown_under_its_own_name(name):
    vocabulary = Vocabulary(["sky", "cup|beaker"])
    with pytest.raises(UsageError, match=f"--exemplar {name}: name the class .* first, cup"):
        with_exemplars(vocabulary, [Exemplar(name, "cup.png")])


def test_a_transparent_mask_that_is_to_be_turned(files):
    """Clockwise: its upper half is the right one of the picture."""
    content = np.zeros((40, 30, 4), np.uint8)
    content[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(content).save("turned.png", exif=exif)
    inside = parse_exemplar("mug=mug.png:turned.png").load()[1]
    assert inside.shape == (30, 40) and inside[:, 20:].all() and not inside[:, :20].any()
    frame, inside = parse_exemplar("mug=turned.png").load()
    assert inside.shape == frame.size_hw == (30, 40)
    assert inside[:, 20:].all() and not inside[:, :20].any()


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_what_a_picture_leaves_transparent_is_no_part_of_the_class(files, kind):
    """As of what `ovseg export --to cutout` writes; a mask or a box counts besides."""
    if kind == "P":
        content = Image.fromarray(np.repeat([[0], [1]], [20, 10], 0).astype(np.uint8).repeat(40, 1))
        content.putpalette([9, 9, 9, 200, 90, 90])
        content.save("cut.png", transparency=0)
    else:
        values = np.full((30, 40, len(kind)), 200, np.uint8)
        values[:20, :, -1] = 127  # below half
        values[20:, :, -1] = 128
        Image.fromarray(values).save("cut.png")
    inside = parse_exemplar("mug=cut.png").load()[1]
    assert not inside[:20].any() and inside[20:].all()
    boxed = parse_exemplar("mug=cut.png:5,10,10,15").load()[1]
    assert boxed[20:25, 5:15].all() and boxed.sum() == 50
    with pytest.raises(UsageError, match="cut.png .* is transparent everywhere where it is marked"):
        parse_exemplar("mug=cut.png:mask.png").load()  # rows 10 to 19


def test_a_picture_that_is_transparent_everywhere(files):
    Image.fromarray(np.full((30, 40, 4), (9, 9, 9, 0), np.uint8)).save("glass.png")
    with pytest.raises(UsageError, match=r"mug: glass\.png \(40x30 pixels\) is transparent every"):
        parse_exemplar("mug=glass.png").load()


@pytest.mark.parametrize("part", ["text.png", "mug.png:text.png"])
def test_a_file_that_is_no_picture(files, part):
    (files / "text.png").write_text("This is no picture at all.")
    with pytest.raises(UsageError, match=r"exemplar of mug: text\.png: "):
        parse_exemplar(f"mug={part}").load()


def test_of_several_pictures_the_mean_counts(mini, shown):
    """Whatever their order: a class is not what its first picture shows."""
    other = Exemplar("upper", shown[0].picture, box=(64, 40, 64, 16))
    vocabulary = with_exemplars(Vocabulary(["sea"]), shown[:1])
    one, two, both, turned = (
        Segmenter(mini, vocabulary, exemplars=pictures).phrase_features()[1]
        for pictures in ([shown[0]], [other], [shown[0], other], [other, shown[0]])
    )
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-5)
    np.testing.assert_allclose(both, turned, atol=1e-6)
    assert np.abs(one - two).max() > 0.01


def test_black_is_outside_of_a_mask_with_transparency_too(files):
    mask = np.zeros((30, 40, 4), np.uint8)
    mask[10:20, 5:15] = (255, 255, 255, 255)
    mask[10:20, 15:25] = (0, 0, 0, 255)  # black, and to be seen
    mask[20:30, 5:15] = (255, 255, 255, 0)  # white, and not
    Image.fromarray(mask).save("mask.png")
    inside = parse_exemplar("mug=mug.png:mask.png").load()[1]
    assert inside[10:20, 5:15].all() and inside.sum() == 100
