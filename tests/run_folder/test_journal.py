import errno
import json
import os
import stat
import time
import tracemalloc
from dataclasses import replace
from random import Random

import pytest

import ovseg_cli.run_folder.journal as journal_module
from ovseg_cli.errors import OutputError
from ovseg_cli.run_folder.journal import SYNC_ENTRIES, Journal, run_fingerprint
from ovseg_cli.run_folder.journal_entry import Entry

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
    return replace(entry, order=0, finished=0.0) == replace(other, order=0, finished=0.0)


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


def test_many_are_looked_up_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_TOGETHER", 7)
    first, second = Journal(tmp_path, "1-of-2"), Journal(tmp_path, "2-of-2")
    for number in range(40):
        first.append(replace(ENTRY, rel=str(number), size=number))
    for number in range(0, 40, 3):
        second.append(replace(ENTRY, rel=str(number), size=100 + number))
    journal = Journal(tmp_path)
    journal.load()
    for number in range(0, 40, 5):
        journal.append(replace(ENTRY, rel=str(number), size=200 + number))
    sought = [str(number) for number in range(50)]
    Random(0).shuffle(sought)
    found = list(journal.latest(iter(sought)))
    assert found == [journal.entry(rel) for rel in sought]
    for rel, entry in zip(sought, found, strict=True):
        number = int(rel)
        by_last = 200 if number % 5 == 0 else 100 if number % 3 == 0 else 0
        assert entry is None if number >= 40 else entry.size == by_last + number


def test_it_is_read_again_only_where_others_have_written(tmp_path, monkeypatch):
    loads, real = [], Journal._load
    monkeypatch.setattr(Journal, "_load", lambda self: (loads.append(self), real(self)))
    own, other = Journal(tmp_path, "1-of-2"), Journal(tmp_path, "2-of-2")
    own.refresh()
    own.append(ENTRY)
    own.refresh()
    assert loads == [own]
    assert same(own.entry("a/b"), ENTRY)
    for size in (1, 2):
        other.append(replace(ENTRY, rel="c", size=size))
        loads.clear()
        own.refresh()
        own.refresh()
        assert loads == [own]
        assert own.entry("c").size == size


@pytest.mark.parametrize(
    "rubbish",
    [
        *(b'{"rel": "x", "pa', b"[]\n", b"null\n", b"\xff\xfe\n", b"{}\n"),
        b'{"rel":"a/b","order":7,"pa',  # of the very input, as this program begins a line
    ],
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
    assert same(again.entry("a/b"), ENTRY)


@pytest.mark.skipif(os.name != "posix", reason="no such names there")
def test_a_place_that_cannot_be_written_is_told_without_control_characters(tmp_path):
    (tmp_path / "a\x1b[2J").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot write") as caught:
        Journal(tmp_path / "a\x1b[2J").append(ENTRY)
    assert "\x1b" not in str(caught.value)


def test_a_line_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    Journal(tmp_path).append(ENTRY)
    before = (tmp_path / "journal.jsonl").read_bytes()
    journal = Journal(tmp_path)
    journal.load()

    class FullDisk:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, line):
            return self.stream.write(line[:5])

    own = type(journal.own)
    real_open = own.open

    def opened(file, mode="r", *rest, **more):
        stream = real_open(file, mode, *rest, **more)
        return FullDisk(stream) if "a" in mode else stream

    monkeypatch.setattr(own, "open", opened)
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)) as caught:
        journal.append(replace(ENTRY, rel="second"))
    assert caught.value.__cause__.errno == errno.ENOSPC
    monkeypatch.undo()
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    assert journal.entry("second") is None


def test_the_order_of_entries_does_not_hang_on_the_clock(tmp_path, monkeypatch):
    clock = iter([5000.0, 4000.0, 10.0, 0.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    for part, size in (("", 1), ("2-of-3", 2), ("1-of-3", 3), ("", 4)):
        Journal(tmp_path, part).append(replace(ENTRY, size=size))
        later = Journal(tmp_path)
        later.load()
        assert later.entry("a/b").size == size


class TestOnTheDisk:
    @pytest.fixture
    def forced(self, monkeypatch):
        """How many lines the own journal had each time it was forced to the disk."""
        lines, real = [], os.fsync

        def fsync(descriptor):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                lines.append(os.pread(descriptor, 1 << 24, 0).count(b"\n"))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return lines

    def test_many_lines_are_forced_at_once(self, tmp_path, forced, monkeypatch):
        monkeypatch.setattr(journal_module, "SYNC_SECONDS", 1e9)
        journal = Journal(tmp_path)
        for number in range(2 * SYNC_ENTRIES + 5):
            journal.append(replace(ENTRY, rel=str(number)))
        assert forced == [SYNC_ENTRIES, 2 * SYNC_ENTRIES]
        journal.close()
        assert forced[-1] == 2 * SYNC_ENTRIES + 5

    def test_none_waits_long_for_others(self, tmp_path, forced, monkeypatch):
        monkeypatch.setattr(journal_module, "SYNC_SECONDS", 0.0)
        journal = Journal(tmp_path)
        for number in range(3):
            journal.append(replace(ENTRY, rel=str(number)))
        assert forced == [1, 2, 3]

    @pytest.mark.skipif(os.name != "posix", reason="folders are not forced there")
    def test_the_name_of_a_new_journal_is_forced_too(self, tmp_path, monkeypatch):
        """Else a power cut may leave a folder without it, whatever was forced of its lines."""
        folders, real = [], os.fsync

        def fsync(descriptor):
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                assert (tmp_path / "new" / "journal.jsonl").exists()
                folders.append(found.st_ino)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        Journal(tmp_path / "new").append(ENTRY)
        assert folders == [(tmp_path / "new").stat().st_ino]

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
    def test_a_place_that_forces_nothing_is_no_error(self, tmp_path, monkeypatch, number):
        """Pipes and some file systems of networks."""

        def fsync(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)
        journal = Journal(tmp_path)
        journal.append(ENTRY)
        journal.close()
        assert same(journal.entry("a/b"), ENTRY)

    def test_a_disk_that_fails_then_is_said(self, tmp_path, monkeypatch):
        def fsync(descriptor):
            raise OSError(errno.EIO, "Input/output error")

        journal = Journal(tmp_path)
        journal.append(ENTRY)
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.close()

    def test_a_closed_journal_goes_on(self, tmp_path):
        journal = Journal(tmp_path)
        journal.append(ENTRY)
        journal.close()
        journal.append(replace(ENTRY, size=11))
        assert journal.entry("a/b").size == 11


class TestIndex:
    def test_it_finds_what_a_dictionary_finds(self, monkeypatch):
        monkeypatch.setattr(journal_module, "_UNSETTLED", 50)
        random, index, expected = Random(0), journal_module._Index(), {}
        for place in range(2000):
            rel = str(random.randrange(700))
            index.put(rel, place)
            expected[rel] = place
            sought = [rel, *(str(random.randrange(900)) for _ in range(random.randrange(4)))]
            assert index.find(sought) == [expected.get(each, -1) for each in sought]

    def test_it_is_small(self, tmp_path):
        journal = Journal(tmp_path)
        journal.append(ENTRY)
        journal.close()
        line = (tmp_path / "journal.jsonl").read_bytes()
        count = 50_000
        with open(tmp_path / "journal.jsonl", "wb") as stream:
            for number in range(count):
                stream.write(line.replace(b"a/b", b"%06d" % number))
        journal.load()
        tracemalloc.start()
        journal.load()
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert grown / count < 40  # bytes an input
        assert journal.entry("049999").path == "/photos/049999.jpg"


def test_lines_of_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "hash", lambda rel: 7, raising=False)
    journal = Journal(tmp_path)
    journal.append(ENTRY)
    journal.append(replace(ENTRY, rel="other"))
    journal.load()
    assert journal.entry("a/b") is None  # done again, rather than taken for the other
    assert same(journal.entry("other"), replace(ENTRY, rel="other"))


@pytest.mark.parametrize(
    "changed",
    [
        {"rel": 3},
        {"order": "x"},
        {"order": -1},
        {"areas": [3]},
        {"areas": [["sky", 1, 0.5]]},
        {"files": {"labels": ["x"]}},
        {"files": [1]},
        {"path": None},
        {"size": "10"},
        {"more": 1},
        {"width": "a", "height": 10**15},
        {"width": [0], "height": 10**15},
        {"width": True},
        {"width": 0, "areas": []},
        {"height": -2, "areas": []},
        {"width": 1 << 31},
        {"finished": [[]]},
        {"rel": "a\0b"},
        {"rel": "a\ud800"},
        {"files": {"labels": {"labels/a\0.png": 30}}},
    ],
)
def test_a_line_of_another_kind_is_passed_over(tmp_path, changed):
    Journal(tmp_path).append(ENTRY)
    file = tmp_path / "journal.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed) + "\n")
    journal = Journal(tmp_path)
    journal.load()
    assert journal.entry("a/b") is None
    assert not list(journal.entries())


def test_a_line_that_goes_on_after_its_entry_is_passed_over(tmp_path):
    """As where two writers have met."""
    Journal(tmp_path).append(ENTRY)
    file = tmp_path / "journal.jsonl"
    file.write_text(file.read_text().rstrip("\n") + '"files":{}}\n')
    journal = Journal(tmp_path)
    journal.load()
    assert journal.entry("a/b") is None
    assert not list(journal.entries())


def test_after_the_last_number_that_an_order_can_have(tmp_path):
    """Of entries of one order the one that stands last counts."""
    Journal(tmp_path).append(ENTRY)
    file = tmp_path / "journal.jsonl"
    file.write_text(file.read_text().replace('"order":0', f'"order":{(1 << 63) - 1}'))
    journal = Journal(tmp_path)
    for size in (11, 12, 13):
        journal.append(replace(ENTRY, size=size))
    later = Journal(tmp_path)
    later.load()
    assert journal.entry("a/b").size == later.entry("a/b").size == 13
    assert [entry.size for entry in later.entries()] == [10, 11, 12, 13]


def test_of_many_parts_few_journals_are_open_at_a_time(tmp_path, monkeypatch):
    """A process may open a thousand files, often; a run may have more parts."""
    monkeypatch.setattr(journal_module, "_OPEN_FILES", 3)
    for number in range(1, 9):
        Journal(tmp_path, f"{number}-of-8").append(replace(ENTRY, rel=str(number), size=number))
    journal = Journal(tmp_path)
    journal.load()
    for _ in range(2):
        for number in range(1, 9):
            assert journal.entry(str(number)).size == number
            assert len(journal._readers) <= 3


def test_a_line_without_end_is_read_in_pieces(tmp_path, monkeypatch):
    Journal(tmp_path).append(ENTRY)
    longest = (tmp_path / "journal.jsonl").stat().st_size + 16  # the moment noted may be longer
    monkeypatch.setattr(journal_module, "_LONGEST_LINE", longest)
    with open(tmp_path / "journal.jsonl", "ab") as stream:
        stream.write(b"[" * 10 * longest + b"\n")
    with open(tmp_path / "journal.jsonl", "rb") as stream:
        assert max(map(len, journal_module._lines(stream))) == longest
    Journal(tmp_path).append(replace(ENTRY, rel="c/d"))
    later = Journal(tmp_path)
    later.load()
    assert same(later.entry("a/b"), ENTRY)
    assert same(later.entry("c/d"), replace(ENTRY, rel="c/d"))


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


def test_a_folder_in_place_of_a_journal_is_passed_over(tmp_path):
    (tmp_path / "journal-1-of-2.jsonl").mkdir()
    Journal(tmp_path).append(ENTRY)
    later = Journal(tmp_path)
    later.load()
    assert same(later.entry("a/b"), ENTRY)
