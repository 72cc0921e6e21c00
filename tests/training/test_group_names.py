"""What a group of views is asked about."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ovseg_cli.data.batches import Guest
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError
from ovseg_cli.model.build import build
from ovseg_cli.training import group_names
from ovseg_cli.training.group_names import GroupNames, Names, NamesConfig
from ovseg_cli.training.other_names import OtherNames

CPU = torch.device("cpu")
DISCS = ("discs", (("red", "blue"), torch.tensor([0.5, 2.0, 1.0])))
FIELDS = ("fields", (("sky", "grass"), torch.ones(3)))
MOODS = {"moods": (("sunny", "bright"), ("dark",))}


def drawn(draw):
    """Generators with other seeds."""
    return (np.random.default_rng(seed) for seed in range(draw))


@pytest.fixture
def ask(tiny):
    model = build(tiny)
    return lambda marked=None, **values: GroupNames(
        model, NamesConfig(**values), dict([DISCS, FIELDS]), MOODS, CPU, marked
    )


def test_a_set_goes_by_its_own_names(ask):
    names = ask(synonym_share=0.0).draw("discs", np.random.default_rng(0))
    assert names.own
    assert names.weights.tolist() == [0.5, 2.0, 1.0]
    assert names.table[:3].tolist() == [0, 1, 2]
    assert set(names.table[3:].tolist()) == {IGNORE}
    moods = ask(synonym_share=0.0).draw("moods", np.random.default_rng(0))
    assert moods.weights.tolist() == [1, 1, 1]


def test_a_set_takes_on_the_names_of_another_vocabulary(ask):
    other = OtherNames(
        ("day", "blue", "green"), ("discs", "moods"), {"day": ("sunny",)}, unsure=("red",)
    )
    group_names = ask(
        other_names=(other,),
        other_names_share=1.0,
        synonyms={"green": ("verdant",)},
        synonym_share=1.0,
    )
    draw = np.random.default_rng(0)
    discs, moods = (group_names.draw(name, draw) for name in ("discs", "moods"))
    for names in (discs, moods):
        assert not names.own
        assert torch.equal(names.text, group_names.features(["day", "blue", "verdant"]))
    assert discs.table[:3].tolist() == [IGNORE, 1, IGNORE]  # red, blue, none of these
    assert moods.table[:2].tolist() == [0, 3]  # sunny is day, dark is none
    assert discs.weights.tolist() == [1, 2, 1, 1]  # no class of the set is day or green
    assert moods.weights.tolist() == [1, 1, 1, pytest.approx(0.3)]
    assert group_names.draw("fields", draw).own
    group_names.config = replace(group_names.config, other_names_share=0.0)
    assert group_names.draw("discs", draw).own


def test_guests_have_their_own_names_beside_the_sets(ask):
    other = OtherNames(("day", "blue"), ("discs",))
    group_names = ask(other_names=(other,), other_names_share=1.0, synonym_share=0.0)
    guests = {3: Guest("moods", 1), 4: Guest("moods", 0)}
    names = group_names.draw("discs", np.random.default_rng(0), guests)
    assert names.own  # day may be a name for something sunny
    assert torch.equal(names.text[:2], group_names.features(["red", "blue"]))
    assert torch.equal(names.text[2:], group_names.features(["dark", "sunny"]))
    assert names.weights.tolist() == [0.5, 2.0, 1.0, 1.0, 1.0]
    # red, blue, none of these, dark, sunny
    assert names.table[:5].tolist() == [0, 1, 4, 2, 3]
    assert set(names.table[5:].tolist()) == {IGNORE}
    assert group_names.own["discs"].table[:4].tolist() == [0, 1, 2, IGNORE]  # as it was


def test_what_is_marked_beside_a_sets_names(ask):
    """Labels of the photos: red, blue, none, then sky, grass and unsure, then a guest."""
    other = OtherNames(("day", "blue"), ("discs", "fields"), {"day": ("sky",)})
    group_names = ask({"discs": ("sky", "grass")}, other_names=(other,), synonym_share=0.0)
    own = group_names.own["discs"]
    assert own.table[:7].tolist() == [0, 1, 2, 2, 2, 2, IGNORE]
    both, renamed = group_names.others["discs"]
    assert [row[0] for row in both.phrases] == ["red", "blue", "sky", "grass"]
    assert both.table[:7].tolist() == [0, 1, 4, 2, 3, IGNORE, IGNORE]
    assert both.weights.tolist() == [0.5, 2.0, 1.0, 1.0, 1.0]
    assert renamed.table[:7].tolist() == [2, 1, IGNORE, 0, 2, IGNORE, IGNORE]
    assert group_names.own["fields"].table[:4].tolist() == [0, 1, 2, IGNORE]
    guests = {6: Guest("moods", 1)}
    names = group_names.draw("discs", np.random.default_rng(0), guests)
    assert names.table[:8].tolist() == [0, 1, 3, 3, 3, 3, 2, IGNORE]


def test_another_vocabulary_for_a_set_that_is_not_listed(ask):
    with pytest.raises(UsageError, match="the set deserts is not listed"):
        ask(other_names=(OtherNames(("red",), ("deserts",)),))


def test_synonyms_stand_in_for_a_share_of_the_names(ask):
    names = ask(synonyms={"sky": ("heavens", "clouds")}, synonym_share=0.4)
    rows = torch.stack([names.draw("fields", draw).text for draw in drawn(500)])
    for phrase, share in (("sky", 0.6), ("heavens", 0.2), ("clouds", 0.2)):
        same = (rows[:, 0] == names.features([phrase])[0]).all(1).float().mean().item()
        assert same == pytest.approx(share, abs=0.07)
    assert (rows[:, 1] == names.features(["grass"])[0]).all()


NAMES = Names(
    text=torch.eye(6)[:5],
    weights=torch.tensor([1.0, 2.0, 3.0, 0.5, 0.25, 0.75]),
    table=torch.tensor([*range(6), *[IGNORE] * 250]),
    own=True,
)


def rows_of(names):
    """Which of NAMES these are; what each label stands for is checked."""
    rows = [int(row.argmax()) for row in names.text]
    assert rows == sorted(rows)
    assert len(names.weights) == len(rows) + 1
    for label, number in enumerate(names.table.tolist()):
        if label in rows:
            assert rows[number] == label
            assert names.weights[number] == NAMES.weights[label]
        else:
            assert number == (len(rows) if label <= 5 else IGNORE)
    return rows


def test_names_that_are_left_out_become_non_object():
    counts = set()
    for draw in drawn(40):
        names = group_names._leave_out(NAMES, draw)
        counts.add(len(rows_of(names)))
        assert names.weights[-1] == 0.75  # the median of all
    assert counts >= {1, 2, 3, 4}


def test_of_few_names_those_that_are_shown_stay():
    labels = torch.tensor([[[1, 1, 3], [5, IGNORE, 3]]])
    found = [rows_of(group_names._few(NAMES, labels, draw)) for draw in drawn(400)]
    assert all({1, 3} <= set(rows) for rows in found)
    others = np.mean([len(rows) - 2 for rows in found]) / 3
    assert others == pytest.approx(group_names.OTHERS_ASKED / 3, abs=0.015)  # mean of a square
    assert group_names._few(NAMES, labels, np.random.default_rng(0)).weights[-1] == 0.75


def test_where_nothing_is_shown_all_names_stay():
    nothing = torch.full((1, 4, 4), IGNORE)
    counts = [len(rows_of(group_names._few(NAMES, nothing, draw))) for draw in drawn(100)]
    assert min(counts) >= 1
    assert np.mean(np.array(counts) == 5) > 0.7


@pytest.mark.parametrize(
    ("config", "least", "most"),
    [
        ({"few_share": 0.0, "drop_share": 0.0}, 0, 0),
        ({"few_share": 0.5, "drop_share": 0.0}, 0.4, 0.6),
        ({"few_share": 0.0, "drop_share": 0.5}, 0.27, 0.45),  # both stay in 29 % of those
    ],
)
def test_a_share_of_the_groups_has_a_part_of_the_names(ask, config, least, most):
    names = ask(**config)
    labels = torch.zeros((1, 2, 2), dtype=torch.long)
    thinned = [names.thinned(names.draw("discs", draw), labels, draw) for draw in drawn(300)]
    assert least <= np.mean([len(group.text) == 1 for group in thinned]) <= most
