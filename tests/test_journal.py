import errno
import os
from dataclasses import replace

import pytest

from ovseg_cli.errors import OutputError
from ovseg_cli.journal import Entry, Journal, run_fingerprint

ENTRY = Entry(
    rel="a/b",
    path="/photos/a/b.jpg",
    size=10,
    modified_ns=20,
    run="0123",
    width=4,
    height=2,
    areas=((0, 6, 0.5), (-1, 2, 0.25)),
    files={"labels": {"labels/a/b.png": 30}},
)


def same(entry, other):
    return replace(entry, finished=0.0) == replace(other, finished=0.0)


def test_an_entry_comes_back_from_the_disk(tmp_path):
    Journal(tmp_path).append(ENTRY)
    later = Journal(tmp_path)
    later.load()
    assert same(later.entry("a/b"), ENTRY)
    assert later.entry("other") is None


def test_the_latest_entry_counts(tmp_path):
    journal = Journal(tmp_path)
    for size in (1, 2, 3):
        journal.append(replace(ENTRY, size=size))
    later = Journal(tmp_path)
    later.load()
    assert journal.entry("a/b").size == later.entry("a/b").size == 3
    assert [entry.size for entry in later.entries()] == [1, 2, 3]


def test_parts_have_journals_of_their_own_and_see_all(tmp_path):
    first, second = Journal(tmp_path, "1-of-2"), Journal(tmp_path, "2-of-2")
    first.append(ENTRY)
    second.append(replace(ENTRY, rel="c"))
    assert len(first.files()) == 2
    first.load()
    assert first.entry("c") is not None
    Journal(tmp_path).append(replace(ENTRY, size=99))  # later, in a third file
    first.load()
    assert first.entry("a/b").size == 99


@pytest.mark.parametrize(
    "rubbish", [b'{"rel": "x", "pa', b"[]\n", b"null\n", b"\xff\xfe\n", b"{}\n"]
)
def test_rubbish_from_a_crash_is_passed_over(tmp_path, rubbish):
    Journal(tmp_path).append(ENTRY)
    with open(tmp_path / "journal.jsonl", "ab") as stream:
        stream.write(rubbish)
    later = Journal(tmp_path)
    later.load()
    assert same(later.entry("a/b"), ENTRY)
    later.append(replace(ENTRY, rel="next"))
    assert same(later.entry("next"), replace(ENTRY, rel="next"))
    again = Journal(tmp_path)
    again.load()
    assert same(again.entry("next"), replace(ENTRY, rel="next"))


def test_a_line_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    journal.append(ENTRY)
    before = (tmp_path / "journal.jsonl").read_bytes()

    class FullDisk:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def write(self, line):
            return self.stream.write(line[:5])

    own = type(journal._own)
    real_open = own.open
    monkeypatch.setattr(own, "open", lambda *a, **k: FullDisk(real_open(*a, **k)))
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)) as caught:
        journal.append(replace(ENTRY, rel="second"))
    assert caught.value.__cause__.errno == errno.ENOSPC
    monkeypatch.undo()
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    assert journal.entry("second") is None


def test_names_that_are_not_unicode(tmp_path):
    odd = replace(ENTRY, rel="caf\udce9\n")
    Journal(tmp_path).append(odd)
    later = Journal(tmp_path)
    later.load()
    assert same(later.entry(odd.rel), odd)


def test_fingerprints_tell_runs_apart():
    base = {"classes": [("a", "b"), ("c",)], "threshold": None}
    assert run_fingerprint(base) == run_fingerprint(dict(reversed(base.items())))
    for other in ({**base, "threshold": 0.5}, {**base, "classes": [("a",), ("b", "c")]}):
        assert run_fingerprint(other) != run_fingerprint(base)
