"""Parts of a divided run: into one folder or several, joined, or refused."""

import csv
import json
import os
import shutil

import pytest
from mock_segmenter import files_below, make_photo, make_photos

from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder import merge_checks, merging

TABLES = ("stats.csv", "summary.csv", "classes.json")
CLASSES = ["--classes", "sky,road,car|automobile"]


@pytest.fixture
def photos(tmp_path):
    make_photos(tmp_path / "photos" / "a", 9)
    for number in range(3):  # larger files, and names whose natural order is not that of bytes
        make_photo(tmp_path / "photos" / "b" / f"p{9 + number}.png", (160, 96), seed=number)
    return "photos"


@pytest.fixture
def part(program, photos):
    """Runs one part into a folder of its own, or that one; returns the folder."""

    def run(index, count=3, out=None, *more, code=0):
        out = out or f"part{index}"
        arguments = [photos, "-r", *CLASSES, "--shard", f"{index}/{count}", "-o", out, *more]
        ended = program("segment", *arguments)
        assert ended.code == code, ended.err
        return out

    return run


@pytest.fixture
def whole(program, photos, tmp_path):
    assert program("segment", photos, "-r", *CLASSES, "-o", "whole").code == 0
    return tmp_path / "whole"


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


class TestJoined:
    def test_parts_in_several_folders_give_the_tables_of_a_whole_run(
        self, program, part, whole, tmp_path
    ):
        outs = [part(index) for index in (3, 1, 2)]
        ended = program("merge", *outs, "-o", "joined")
        assert ended.code == 0 and "12 photos" in ended.err
        assert tables(tmp_path / "joined") == tables(whole)
        assert not (tmp_path / "joined" / "labels").exists()
        told, one = (json.loads((f / "run.json").read_text()) for f in (tmp_path / "joined", whole))
        for key in ("version", "status", "model", "device", "precision", "options", "counts"):
            assert told[key] == one[key]
        assert sum(each["counts"]["inputs"] for each in told["parts"]) == 12

    @pytest.mark.parametrize("how", ["copy", "link"])
    def test_with_their_files(self, program, part, whole, tmp_path, how):
        outs = [part(index) for index in (1, 2, 3)]
        assert program("merge", *outs, "-o", "joined", "--files", how).code == 0
        assert files_below(tmp_path / "joined") == files_below(whole)
        map_ = tmp_path / "joined/labels/b/p10.png"
        assert (map_.stat().st_nlink == 2) == (how == "link")
        again = program("segment", "photos", "-r", *CLASSES, "-o", "joined", "--resume")
        assert "12 finished earlier" in again.err

    def test_parts_in_one_folder(self, program, part, whole, tmp_path):
        for index in (2, 3, 1):
            part(index, 3, "one", "--resume")
        assert files_below(tmp_path / "one") == files_below(whole)
        (tmp_path / "one/stats.csv").unlink()
        assert program("merge", "one").code == 0
        assert files_below(tmp_path / "one") == files_below(whole)

    def test_a_report_can_be_made_of_it(self, program, part, tmp_path):
        outs = [part(index) for index in (1, 2, 3)]
        program("merge", *outs, "-o", "joined", "--files", "copy")
        assert program("report", "joined").code == 0
        assert "p10.png" in (tmp_path / "joined/report.html").read_text("utf-8")

    def test_failures_are_joined(self, program, part, photos, tmp_path):
        (tmp_path / photos / "a" / "05.png").write_bytes(b"")
        outs = []
        codes = []
        for index in (1, 2, 3):
            out = f"part{index}"
            ended = program("segment", photos, "-r", *CLASSES, "--shard", f"{index}/3", "-o", out)
            outs.append(out)
            codes.append(ended.code)
        assert sorted(codes) == [0, 0, 1]
        ended = program("merge", *outs, "-o", "joined")
        assert ended.code == 1 and "11 photos, 1 failed" in ended.err
        told = json.loads((tmp_path / "joined/run.json").read_text())
        assert [failure["path"] for failure in told["failures"]] == ["photos/a/05.png"]
        with (tmp_path / "joined/stats.csv").open(newline="") as stream:
            assert len({row["image"] for row in csv.DictReader(stream)}) == 11

    def test_a_shard_of_many_photos_is_brought_over_once(
        self, program, photos, tmp_path, monkeypatch
    ):
        for index in (1, 2):
            divided = ("--shard", f"{index}/2", "--tar-size", "1MB", "-o", f"part{index}")
            assert program("segment", photos, "-r", *CLASSES, *divided).code == 0
        copied = []
        copy = merging.shutil.copyfile

        def counted(source, target):
            copied.append(source.name)
            return copy(source, target)

        monkeypatch.setattr(merging.shutil, "copyfile", counted)
        ended = program("merge", "part1", "part2", "-o", "joined", "--files", "copy")
        assert ended.code == 0 and "12 photos" in ended.err
        assert sorted(copied) == sorted(file.name for file in tmp_path.glob("part*/*.tar"))
        for name in copied:
            assert (tmp_path / "joined" / name).is_file()

    def test_a_photo_that_is_gone_is_a_failure_and_no_gap(self, program, photos, tmp_path):
        listed = "\n".join([f"photos/a/{i:02}.png" for i in range(9)] + ["photos/gone.png"])
        codes = []
        for index in (1, 2):
            arguments = ["-", *CLASSES, "--shard", f"{index}/2", "-o", f"part{index}"]
            codes.append(program("segment", *arguments, stdin=listed.encode()).code)
        assert sorted(codes) == [0, 1]
        ended = program("merge", "part1", "part2", "-o", "joined")
        assert ended.code == 1 and "9 photos, 1 failed" in ended.err

    def test_the_whole_began_when_its_first_part_did(self, program, part, tmp_path):
        outs = [part(1, 2), part(2, 2)]
        for index, day in ((1, "02"), (2, "01")):
            file = tmp_path / f"part{index}/.ovseg/part-{index}-of-2.json"
            told = json.loads(file.read_text())
            told["report"]["timing"] |= {"started": f"2026-03-{day}T08:00:00+00:00"}
            file.write_text(json.dumps(told))
        assert program("merge", *outs, "-o", "joined").code == 0
        told = json.loads((tmp_path / "joined/run.json").read_text())
        assert told["timing"]["started"] == "2026-03-01T08:00:00+00:00"

    def test_more_parts_than_photos(self, program, part, whole, tmp_path):
        outs = [part(index, 20) for index in range(1, 21)]
        assert program("merge", *outs, "-o", "joined").code == 0
        assert tables(tmp_path / "joined") == tables(whole)


class TestRefused:
    """Each with exit code 2, a message that names what is wrong, and nothing written."""

    @pytest.fixture
    def refused(self, program, tmp_path):
        def run(*arguments, says):
            ended = program("merge", *arguments, "-o", "joined")
            assert ended.code == 2
            for words in says:
                assert words in ended.err, ended.err
            assert not (tmp_path / "joined").exists()

        return run

    def test_a_part_that_is_missing(self, part, refused):
        refused(part(1), part(3), says=["part 2 of 3 missing"])

    def test_a_part_that_is_there_twice(self, part, refused, tmp_path):
        outs = [part(index) for index in (1, 2, 3)]
        shutil.copytree(tmp_path / "part2", tmp_path / "copy")
        refused(*outs, "copy", says=["part 2 of 3 (part2)", "part 2 of 3 (copy)", "twice"])

    def test_a_folder_that_is_named_twice_is_one(self, part, program, tmp_path):
        outs = [part(index) for index in (1, 2, 3)]
        assert program("merge", *outs, "part2/", "-o", "joined").code == 0

    def test_parts_of_different_divisions(self, part, refused):
        refused(part(1, 2), part(2, 3, "other"), says=["part 1 of 2", "part 2 of 3", "divisions"])

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--threshold", "0.5"], "threshold is None and 0.5"),
            (["--other", "rest"], "other is None and rest"),
            (["--no-exif"], "exif is True and False"),
        ],
    )
    def test_other_options(self, part, refused, more, says):
        refused(part(1, 2), part(2, 2, None, *more), says=["part 2 of 2", says])

    def test_other_names(self, part, refused, program):
        out = part(1, 2)
        arguments = ["photos", "-r", "--classes", "sky,road,bus", "--shard", "2/2", "-o", "part2"]
        assert program("segment", *arguments).code == 0
        refused(out, "part2", says=["class names differ"])

    def test_another_model(self, part, refused, fake):
        out = part(1, 2)
        real = fake.load_model
        fake.load_model = lambda *a, **k: real(*a, **k).__class__(name="other", checksum="cd" * 32)
        refused(out, part(2, 2), says=["model is", "mock", "other"])

    def test_another_list(self, part, refused, tmp_path):
        out = part(1, 2)
        make_photo(tmp_path / "photos" / "new.png")
        refused(out, part(2, 2), says=["different lists of inputs (12 and 13)", "--resume"])

    def test_another_list_of_as_many(self, part, refused, tmp_path):
        out = part(1, 2)
        (tmp_path / "photos" / "a" / "08.png").rename(tmp_path / "photos" / "a" / "80.png")
        refused(out, part(2, 2), says=["different lists of inputs (12, not alike)", "--resume"])

    def test_parts_that_were_divided_when_their_inputs_differed(self, part, refused, tmp_path):
        """One has gone on with the division that it began with, the other came later."""
        part(1, 2)
        for number in range(12):
            make_photo(tmp_path / "photos" / "c" / f"{number}.png", (200, 200), seed=number)
        outs = [part(1, 2, "part1", "--resume"), part(2, 2)]
        refused(*outs, says=["divided at different places", "--overwrite"])

    def test_classes_that_somebody_has_changed(self, part, refused, tmp_path):
        """The labels of both are numbers, and would be of other names in one of them."""
        outs = [part(1, 2), part(2, 2)]
        file = tmp_path / "part2" / "classes.json"
        file.write_text(file.read_text().replace('"sky"', '"sea"'))
        refused(*outs, says=["class names differ"])

    def test_a_run_that_is_not_divided(self, refused, whole):
        refused("whole", says=["no part of a run divided by --shard"])

    def test_something_else(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        refused("empty", says=["no output folder of ovseg segment"])
        refused("not-there", says=["no such folder"])

    def test_a_part_that_did_not_come_to_its_end(self, part, refused, tmp_path):
        outs = [part(1, 2), part(2, 2)]
        file = tmp_path / "part2/.ovseg/part-2-of-2.json"
        told = json.loads(file.read_text())
        told["report"] = {"status": "begun"}
        file.write_text(json.dumps(told))
        refused(*outs, says=["part 2 of 2 (part2) is not finished", "--resume"])
        part(2, 2, "part2", "--resume")

    def test_inputs_that_the_journal_lacks(self, part, refused, tmp_path):
        outs = [part(1, 2), part(2, 2)]
        journal = tmp_path / "part1/.ovseg/journal-1-of-2.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[1:]))
        lost = json.loads(lines[0])["rel"]
        refused(*outs, says=["part 1 of 2 (part1) has not finished 1", lost, "--resume"])

    def test_what_a_run_with_other_names_made_of_an_input_is_none_of_the_part_s(
        self, part, refused, tmp_path
    ):
        """As where a photo was gone by the time that the part was run again."""
        outs = [part(1, 2), part(2, 2)]
        journal = tmp_path / "part1/.ovseg/journal-1-of-2.jsonl"
        first, *lines = journal.read_text().splitlines(keepends=True)
        older = json.loads(first) | {"run": 16 * "0"}
        journal.write_text(json.dumps(older) + "\n" + "".join(lines))
        says = ["part 1 of 2 (part1) has not finished 1", older["rel"], "--resume"]
        refused(*outs, says=says)

    def test_a_failure_of_another_photo_does_not_make_up_for_it(
        self, part, program, photos, tmp_path
    ):
        """Of one that was finished, and failed when more was asked for."""
        outs = [part(1, 2), part(2, 2)]
        journal = tmp_path / "part1/.ovseg/journal-1-of-2.jsonl"
        first, *lines = journal.read_text().splitlines(keepends=True)
        lost, failed = (json.loads(line) for line in (first, lines[0]))
        file = tmp_path / "part1/.ovseg/part-1-of-2.json"
        told = json.loads(file.read_text())
        told["report"]["failures"] = [{"path": failed["path"], "reason": "no memory"}]
        file.write_text(json.dumps(told))
        assert program("merge", *outs, "-o", "all").code == 1
        journal.write_text("".join(lines))
        ended = program("merge", *outs, "-o", "joined")
        assert ended.code == 2 and "part 1 of 2 (part1) has not finished 1" in ended.err
        assert lost["rel"] in ended.err

    def test_an_input_in_two_parts(self, part, refused, tmp_path):
        import gzip

        outs = [part(1, 2), part(2, 2)]
        lists = [tmp_path / f"part{i}/.ovseg/part-{i}-of-2.inputs.gz" for i in (1, 2)]
        both = [gzip.decompress(file.read_bytes()).splitlines(keepends=True) for file in lists]
        lists[1].write_bytes(gzip.compress(b"".join([*both[1], both[0][0]])))
        refused(*outs, says=[json.loads(both[0][0])[1], "in two parts"])
        lists[1].write_bytes(gzip.compress(b"".join(both[1][1:])))
        refused(*outs, says=["1 of 12 inputs are in no part"])
        lists[1].write_bytes(b"\x1f\x8bnonsense")
        refused(*outs, says=["cannot be read", "--resume"])

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"borders": [1, 2, 3]}', "\x00"])
    def test_a_record_that_is_damaged(self, part, refused, tmp_path, text):
        outs = [part(1, 2), part(2, 2)]
        (tmp_path / "part1/.ovseg/part-1-of-2.json").write_text(text)
        refused(*outs, says=["cannot be read", "part 1 of 2"])

    @pytest.mark.parametrize(
        "damage",
        [
            {"counts": {"done": 10**400}},
            {"counts": {"done": 1, "failed": -1}},
            {"counts": {}},
            {"timing": {"load_seconds": 1.0, "run_seconds": float("nan"), "started": ""}},
            {"timing": {"load_seconds": 10**400, "run_seconds": 1.0, "started": ""}},
        ],
    )
    def test_numbers_that_no_part_has(self, part, refused, tmp_path, damage):
        outs = [part(1, 2), part(2, 2)]
        self.change_report(tmp_path / "part1/.ovseg/part-1-of-2.json", **damage)
        refused(*outs, says=["part 1 of 2 (part1): its record is damaged"])

    def test_options_that_are_none(self, part, refused, tmp_path):
        outs = [part(1, 2), part(2, 2, None, "--threshold", "0.5")]
        self.change_report(tmp_path / "part1/.ovseg/part-1-of-2.json", options=[1])
        refused(*outs, says=["do not fit together"])

    @staticmethod
    def change_report(file, **values):
        told = json.loads(file.read_text())
        told["report"] |= values
        file.write_text(json.dumps(told))

    def test_a_list_of_inputs_far_longer_than_its_file(self, part, refused, tmp_path, monkeypatch):
        """It is not read to its end, which takes minutes where it is a packed one of a megabyte."""
        import gzip

        outs = [part(1, 2), part(2, 2)]
        for index in (1, 2):
            file = tmp_path / f"part{index}/.ovseg/part-{index}-of-2.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"inputs": 50_000}))
        list_ = tmp_path / "part1/.ovseg/part-1-of-2.inputs.gz"
        list_.write_bytes(gzip.compress(b'[0, ""]\n' * 50_000))
        refused(*outs, says=["of 50000 inputs are in no part"])
        monkeypatch.setattr(merge_checks, "_MOST_CHARACTERS", 1000)
        list_.write_bytes(gzip.compress(b'[0, "%s"]\n' % (b"x" * 1001)))
        refused(*outs, says=["part 1 of 2 (part1): its list of inputs is damaged"])

    def test_a_result_that_is_gone(self, part, program, tmp_path):
        outs = [part(1, 2), part(2, 2)]
        next((tmp_path / "part1/labels").rglob("*.png")).unlink()
        ended = program("merge", *outs, "-o", "joined", "--files", "copy")
        assert ended.code == 2 and "is not there as it was written" in ended.err

    def test_a_journal_cannot_name_files_outside(self, part, program, tmp_path):
        outs = [part(1, 2), part(2, 2)]
        (tmp_path / "secret.png").write_bytes(b"precious")
        journal = tmp_path / "part1/.ovseg/journal-1-of-2.jsonl"
        entry = json.loads(journal.read_text().splitlines()[0])
        for name in ("../secret.png", str(tmp_path / "secret.png")):
            entry["files"] = {"labels": {name: 8}}
            entry["order"] += 1000
            with journal.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")
            ended = program("merge", *outs, "-o", "joined", "--files", "copy", "--overwrite")
            assert ended.code == 2
            copied = [p for p in tmp_path.rglob("*secret*") if p != tmp_path / "secret.png"]
            assert not copied

    def test_a_result_folder_that_is_in_use(self, part, program, whole):
        outs = [part(1, 2), part(2, 2)]
        ended = program("merge", *outs, "-o", "whole")
        assert ended.code == 2 and "--overwrite" in ended.err
        assert program("merge", *outs, "-o", "whole", "--overwrite").code == 0
        assert program("merge", *outs).code == 2
        assert program("merge", *outs, "-o", "part1").code == 2


class TestParts:
    def test_a_grown_folder_is_divided_as_it_was_where_parts_share_a_folder(
        self, program, part, tmp_path
    ):
        part(1, 3, "one", "--resume")
        for number in range(12):
            make_photo(tmp_path / "photos" / "c" / f"{number}.png", (200, 200), seed=number)
        for index in (2, 3, 1):
            part(index, 3, "one", "--resume")
        journals = (tmp_path / "one/.ovseg").glob("journal*")
        rels = [json.loads(line)["rel"] for file in journals for line in file.open()]
        assert len(rels) == len(set(rels)) == 24
        assert program("merge", "one").code == 0

    def test_a_part_that_cannot_begin_leaves_no_division(self, part, program, fake, tmp_path):
        real = fake.load_model

        def missing(*_, **__):
            raise UsageError("no model 'some'")

        fake.load_model = missing
        arguments = ["photos", "-r", *CLASSES, "--shard", "1/3", "-o", "one"]
        assert program("segment", *arguments, "--model", "some").code == 2
        assert not list((tmp_path / "one").rglob("division-of-3.json"))
        fake.load_model = real
        part(1, 3, "one", "--resume")
        assert list((tmp_path / "one").rglob("division-of-3.json"))

    def test_another_division_is_refused(self, program, part):
        part(1, 3, "one")
        arguments = ["photos", "-r", *CLASSES, "--shard", "2/4", "-o", "one"]
        ended = program("segment", *arguments, "--resume")
        assert ended.code == 2 and "part 1 of 3" in ended.err and "-o" in ended.err

    def test_a_part_overwrites_only_its_own(self, program, part, tmp_path):
        for index in (1, 2, 3):
            part(index, 3, "one", "--resume")
        before = files_below(tmp_path / "one")
        part(2, 3, "one", "--overwrite")
        assert files_below(tmp_path / "one") == before
        assert program("merge", "one").code == 0

    def test_a_part_does_not_overwrite_a_whole_run(self, program, part, whole):
        arguments = ["photos", "-r", *CLASSES, "--shard", "1/2", "-o", "whole", "--overwrite"]
        ended = program("segment", *arguments)
        assert ended.code == 2 and "divided otherwise" in ended.err
        assert (whole / "stats.csv").exists()

    def test_overwriting_all_parts_leaves_a_whole_run(self, program, part, whole, tmp_path):
        for index in (1, 2, 3):
            part(index, 3, "one", "--resume")
        assert program("segment", "photos", "-r", *CLASSES, "-o", "one", "--overwrite").code == 0
        assert files_below(tmp_path / "one") == files_below(whole)
        assert not [n for n in os.listdir(tmp_path / "one/.ovseg") if n.startswith(("part", "div"))]

    def test_a_dry_run_shows_the_part_and_leaves_nothing(self, program, photos, tmp_path):
        seen = []
        for index in (1, 2):
            arguments = ["photos", "-r", *CLASSES, "--shard", f"{index}/2", "-o", "out"]
            ended = program("segment", *arguments, "--dry-run")
            assert f"part {index} of 2 of 12" in ended.err
            seen += [line.split("\t")[0] for line in ended.out.splitlines()]
        assert len(seen) == len(set(seen)) == 12
        assert not (tmp_path / "out").exists()


class TestSlurm:
    @pytest.fixture
    def task(self, monkeypatch):
        def be(index, count, first=0):
            for name, value in (("ID", index), ("COUNT", count), ("MIN", first)):
                monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))

        return be

    def test_an_array_job(self, program, task, whole, tmp_path):
        for index in range(3):
            task(index, 3)
            arguments = ["photos", "-r", *CLASSES, "-o", "out", "--resume", "--shard", "slurm"]
            ended = program("segment", *arguments)
            assert ended.code == 0 and f"part {index + 1} of 3 of 12" in ended.err
        assert files_below(tmp_path / "out") == files_below(whole)

    def test_never_silently(self, program, task, photos):
        task(1, 3)
        ended = program("segment", photos, "-r", *CLASSES, "-o", "out")
        assert ended.code == 0 and "12 photos to segment" in ended.err
        assert "SLURM_ARRAY_TASK_ID is set" in ended.err and "--shard slurm" in ended.err

    def test_outside_of_an_array_job(self, program, photos, monkeypatch):
        monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
        ended = program("segment", photos, "-r", *CLASSES, "--shard", "slurm")
        assert ended.code == 2 and "no task of a Slurm array job" in ended.err


def test_nothing_is_written_where_a_result_is_not_there_any_more(program, part, tmp_path):
    outs = [part(index, 2) for index in (1, 2)]
    gone = next((tmp_path / outs[1] / "labels").rglob("*.png"))
    kept = gone.read_bytes()
    gone.unlink()
    ended = program("merge", *outs, "-o", "joined", "--files", "copy")
    assert ended.code == 2 and "not there as it was written" in ended.err
    assert not (tmp_path / "joined").exists() or not files_below(tmp_path / "joined")
    gone.write_bytes(kept)
    assert program("merge", *outs, "-o", "joined", "--files", "copy").code == 0
    ended = program("merge", *outs, "-o", "joined", "--files", "copy")
    assert ended.code == 2 and "--overwrite" in ended.err and "--resume" not in ended.err
    assert program("merge", *outs, "-o", "joined", "--files", "copy", "--overwrite").code == 0
