import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.media import inputs
from ovseg_cli.media.folders import is_image_name
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import find_images


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def rels(arguments, recursive=False):
    return [image.rel for image in find_images([str(a) for a in arguments], recursive)]


class TestFolders:
    def test_only_photos_directly_inside(self, tmp_path):
        make(tmp_path, "b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/c.jpg", "noext")
        assert rels([tmp_path]) == ["a", "b"]

    def test_recursive(self, tmp_path):
        make(tmp_path, "b.jpg", "sub/deep/c.jpg", "sub/a.jpg", ".git/d.jpg", "sub/.thumbs/e.jpg")
        assert rels([tmp_path], recursive=True) == ["b", "sub/a", "sub/deep/c"]

    def test_paths_lead_to_the_files(self, tmp_path, monkeypatch):
        make(tmp_path, "in/sub/a.jpg")
        monkeypatch.chdir(tmp_path)
        (image,) = find_images(["in"], recursive=True)
        assert image.path.read_bytes() == b"x"

    def test_natural_order_whatever_the_disk_says(self, tmp_path):
        make(tmp_path, "10.jpg", "9.jpg", "b2.jpg", "B10.jpg", "b1.jpg", "s10/a.jpg", "s9/a.jpg")
        expected = ["9", "10", "b1", "b2", "B10", "s9/a", "s10/a"]
        assert rels([tmp_path], recursive=True) == expected

    def test_current_folder(self, tmp_path, monkeypatch):
        make(tmp_path, "a.jpg", "-rf.jpg")
        monkeypatch.chdir(tmp_path)
        assert rels(["."]) == ["-rf", "a"]

    @pytest.mark.parametrize("recursive", [False, True])
    def test_without_photos(self, tmp_path, recursive):
        make(tmp_path / "texts", "a.txt", "b.md")
        with pytest.raises(UsageError, match=r"texts: no photo.*\.jpg") as caught:
            find_images([str(tmp_path / "texts")], recursive)
        assert ("; -r looks" in str(caught.value)) is not recursive

    def test_one_of_two_without_photos(self, tmp_path):
        make(tmp_path / "full", "a.jpg")
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="empty: no photo"):
            rels([tmp_path / "full", tmp_path / "empty"])

    def test_hidden_folder_named_outright(self, tmp_path):
        make(tmp_path / ".cache", "a.jpg")
        assert rels([tmp_path / ".cache"]) == ["a"]

    def test_a_folder_with_the_name_of_a_photo(self, tmp_path):
        make(tmp_path, "album.jpg/a.jpg", "b.jpg")
        assert rels([tmp_path]) == ["b"]
        assert rels([tmp_path], recursive=True) == ["album.jpg/a", "b"]

    def test_loops_of_links_end(self, tmp_path):
        make(tmp_path, "a.jpg", "sub/b.jpg")
        (tmp_path / "sub/up").symlink_to(tmp_path)
        (tmp_path / "again").symlink_to(tmp_path / "sub")
        (tmp_path / "zoo").symlink_to(tmp_path / "sub")
        (tmp_path / "self").symlink_to(tmp_path / "self")
        assert rels([tmp_path], recursive=True) == ["a", "sub/b"]
        assert rels([tmp_path / "**"]) == ["a", "sub/b"]

    def test_links_to_elsewhere_are_followed(self, tmp_path):
        make(tmp_path / "elsewhere", "a.jpg")
        make(tmp_path / "photos", "b.jpg")
        (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
        assert rels([tmp_path / "photos"], recursive=True) == ["b", "more/a"]

    def test_links_to_files_are_photos_of_their_own(self, tmp_path):
        make(tmp_path, "a.jpg", "notes.txt")
        (tmp_path / "b.jpg").symlink_to("a.jpg")
        (tmp_path / "c.jpg").symlink_to("notes.txt")
        (tmp_path / "d.txt").symlink_to("a.jpg")
        assert rels([tmp_path]) == rels([tmp_path / "*"]) == ["a", "b", "c"]

    def test_a_dangling_link_fails_later_by_name(self, tmp_path):
        (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
        assert rels([tmp_path]) == ["gone"]

    def test_folder_below_that_may_not_be_read_fails_later_by_name(self, tmp_path, monkeypatch):
        make(tmp_path, "a.jpg", "secret/b.jpg")
        refuse(monkeypatch, "secret")
        images = find_images([str(tmp_path)], recursive=True)
        assert [image.path.name for image in images] == ["a.jpg", "secret"]
        with pytest.raises(Exception, match="folder"):
            read_image(images[1].path)

    def test_given_folder_that_may_not_be_read(self, tmp_path, monkeypatch):
        make(tmp_path, "secret/b.jpg")
        refuse(monkeypatch, "secret")
        with pytest.raises(UsageError, match="secret: Permission denied"):
            rels([tmp_path / "secret"])


class TestMany:
    """A million photos are listed by reading folders: nobody looks at each file."""

    @pytest.fixture
    def looks(self, monkeypatch):
        """How often the file system was asked about something, by the name of the question."""
        counts = Counter()

        def counted(name):
            real = getattr(os, name)

            def ask(*args, **options):
                counts[name] += 1
                return real(*args, **options)

            return ask

        for name in ("stat", "lstat", "scandir", "listdir", "readlink"):
            monkeypatch.setattr(os, name, counted(name))
        return counts

    @pytest.mark.parametrize("pattern", ["", "**/*.jpg", "*/*.jpg"])
    def test_folders_are_read_and_files_are_not_looked_at(self, tmp_path, looks, pattern):
        folders, files = 5, 200
        make(tmp_path, *(f"{i}/{j}.jpg" for i in range(folders) for j in range(files)))
        looks.clear()
        images = find_images([str(tmp_path / pattern)], recursive=True)
        assert len(images) == folders * files
        assert looks["scandir"] + looks["listdir"] <= 2 * folders + 2
        assert looks.total() <= 20 * (folders + len(tmp_path.parts))

    def test_paths_are_made_late(self, tmp_path, monkeypatch):
        make(tmp_path, *(f"{i}.jpg" for i in range(200)))
        made, real = Counter(), Path.__new__

        def new(cls, *args, **options):
            made[cls] += 1
            return real(cls, *args, **options)

        monkeypatch.setattr(Path, "__new__", new)
        images = find_images([str(tmp_path)])
        assert made.total() < 20
        assert images[7].path.read_bytes() == b"x"


def refuse(monkeypatch, name):
    """Make one folder unreadable, which a chmod would not do for root."""
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(inputs.os, "scandir", refusing)


class TestFiles:
    def test_any_suffix_is_taken(self, tmp_path):
        make(tmp_path, "scan.dat", "noext", "a.b.jpg")
        paths = [tmp_path / name for name in ("scan.dat", "noext", "a.b.jpg")]
        assert rels(paths) == ["scan", "noext", "a.b"]

    def test_given_order_is_kept(self, tmp_path):
        make(tmp_path, "b.jpg", "a.jpg")
        assert rels([tmp_path / "b.jpg", tmp_path / "a.jpg"]) == ["b", "a"]

    @pytest.mark.parametrize("name", ["missing.jpg", "missing/", "", "x" * 5000, "a\0b"])
    def test_missing(self, tmp_path, monkeypatch, name):
        make(tmp_path, "a.jpg")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="no such file or folder"):
            rels([name])

    def test_nothing_given(self):
        with pytest.raises(UsageError, match="no input"):
            find_images([], recursive=False)

    @pytest.mark.parametrize(
        "name",
        ["a\nb.jpg", "-o.jpg", "caf\udce9.jpg", "天空.jpg", "a*[1].jpg", "..jpg", "...jpg", ".jpg"]
        + ["n" * 251 + ".jpg"],
    )
    def test_odd_names(self, tmp_path, name):
        try:
            make(tmp_path, name)
        except OSError as error:
            pytest.skip(f"this file system has no such names: {error}")
        (image,) = find_images([str(tmp_path / name)], recursive=False)
        assert image.path.read_bytes() == b"x"
        assert ".." not in Path(image.rel).parts
        assert image.rel not in ("", ".")
        assert not Path(image.rel).is_absolute()

    def test_messages_are_printable(self):
        with pytest.raises(UsageError) as caught:
            rels(["\x1b[2J\n"])
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(
        ("absent", "rel"),
        [("../b.jpg", "b"), ("/x/../b.jpg", "b"), ("../../x/b.jpg", "b"), ("a/b.jpg", "b")],
    )
    def test_files_that_are_not_there_are_named_as_if_they_were(self, tmp_path, absent, rel):
        """They may be there by the time when it is their turn."""
        make(tmp_path, "c.jpg")
        there, missing = find_images([str(tmp_path / "c.jpg")], absent=[absent])
        assert (there.rel, missing.rel, missing.path) == ("c", rel, Path(absent))

    def test_files_that_are_not_there_have_names_of_their_own(self, tmp_path):
        make(tmp_path, "b.jpg")
        images = find_images([str(tmp_path / "b.jpg")], absent=["../b.jpg", "/b.jpg", "b.png"])
        assert len({image.rel for image in images}) == 4


class TestPatterns:
    def test_relative_to_the_part_before_the_wildcard(self, tmp_path):
        make(tmp_path, "in/x/a.jpg", "in/y/a.jpg", "in/y/b.jpg", "in/y/notes.txt")
        assert rels([tmp_path / "in/*/a.jpg"]) == ["x/a", "y/a"]
        assert rels([tmp_path / "in/y/*"]) == ["a", "b"]
        assert rels([tmp_path / "in/**/*.jpg"]) == ["x/a", "y/a", "y/b"]
        assert rels([tmp_path / "in/[y]/?.jpg"]) == ["y/a", "y/b"]

    def test_matched_folders_are_searched(self, tmp_path):
        make(tmp_path, "day1/a.jpg", "day2/a.jpg", "day2/sub/b.jpg", "other/c.jpg")
        assert rels([tmp_path / "day*"]) == ["day1/a", "day2/a"]
        assert rels([tmp_path / "day*"], recursive=True) == ["day1/a", "day2/a", "day2/sub/b"]

    def test_relative_pattern(self, tmp_path, monkeypatch):
        make(tmp_path, "a.jpg", "in/b.jpg")
        monkeypatch.chdir(tmp_path)
        assert rels(["*.jpg"]) == ["a"]
        assert rels(["*/*.jpg"]) == ["in/b"]

    def test_hidden_files_match_nothing(self, tmp_path):
        make(tmp_path, ".a.jpg", "b.jpg")
        assert rels([tmp_path / "*.jpg"]) == ["b"]

    @pytest.mark.parametrize("pattern", ["*.png", "nowhere/*.jpg", "[z].jpg", "*/a.jpg"])
    def test_nothing_matches(self, tmp_path, pattern):
        make(tmp_path, "a.jpg")
        with pytest.raises(UsageError, match="matches no photo"):
            rels([tmp_path / pattern])

    def test_literal_names_come_first(self, tmp_path):
        make(tmp_path, "a[1].jpg", "a1.jpg", "in[x]/*.jpg", "in[x]/b.jpg")
        assert rels([tmp_path / "a[1].jpg"]) == ["a[1]"]
        assert rels([tmp_path / "in[x]/*.jpg"]) == ["*"]
        assert rels([tmp_path / "in[x]/?.jpg"]) == ["*", "b"]

    def test_going_up_never_leaves_the_output_folder(self, tmp_path):
        make(tmp_path, "a.jpg", "in/x/b.jpg")
        for pattern in ("in/*/../../a.jp?", "in/../*.jpg", "in/*/../../*.jpg"):
            (image,) = find_images([str(tmp_path / pattern)])
            assert image.path.samefile(tmp_path / "a.jpg")
            assert ".." not in Path(image.rel).parts


class TestUniqueNames:
    def test_suffix_is_kept_where_two_would_meet(self, tmp_path):
        make(tmp_path, "a.jpg", "a.png", "b.jpg", "sub/a.jpg")
        assert rels([tmp_path], recursive=True) == ["a.jpg", "a.png", "b", "sub/a"]

    def test_names_that_differ_in_case_only_meet(self, tmp_path):
        make(tmp_path, "a.jpg", "A.png")
        assert set(rels([tmp_path])) == {"a.jpg", "A.png"}

    def test_names_that_differ_in_normal_form_only_meet(self, tmp_path):
        make(tmp_path, "\u00e9.jpg", unicodedata.normalize("NFD", "\u00e9.png"))
        assert len({unicodedata.normalize("NFC", rel) for rel in rels([tmp_path])}) == 2

    def test_a_kept_suffix_may_meet_another_name(self, tmp_path):
        make(tmp_path, "a.jpg", "a.png", "a.jpg.webp")
        assert sorted(rels([tmp_path])) == ["a.jpg", "a.jpg.webp", "a.png"]

    def test_same_name_from_two_folders(self, tmp_path):
        make(tmp_path, "day1/a.jpg", "day2/a.jpg", "day2/b.jpg")
        assert rels([tmp_path / "day1", tmp_path / "day2"]) == ["day1/a.jpg", "day2/a.jpg", "b"]

    def test_same_name_from_folders_of_the_same_name(self, tmp_path):
        make(tmp_path, "1/in/a.jpg", "2/in/a.jpg", "3/in/a.jpg", "1/in/in/a.jpg-1.png")
        given = [tmp_path / str(i) / "in" for i in (1, 2, 3)]
        found = rels(given, recursive=True)
        assert len(set(found)) == len(found) == 4
        assert found == rels(given, recursive=True)

    @pytest.mark.parametrize("again", ["a.jpg", "./a.jpg", "sub/../a.jpg", ".", "link/a.jpg"])
    def test_the_same_file_counts_once(self, tmp_path, monkeypatch, again):
        make(tmp_path, "a.jpg", "sub/b.jpg")
        (tmp_path / "link").symlink_to(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert rels(["a.jpg", again]) == ["a"]

    def test_none_is_ever_lost(self, tmp_path):
        names = ["a.jpg", "A.jpg", "a.png", "a.jpg.png", "b/a.jpg", "a/b.jpg", "b.jpg", "x/b.jpg"]
        for folder in ("p", "q", "deep/p"):
            make(tmp_path / folder, *names)
        given = [tmp_path / "p", tmp_path / "q", tmp_path / "deep/p", tmp_path / "p/b/a.jpg"]
        files = sum(len(files) for _, _, files in os.walk(tmp_path))
        found = rels(given, recursive=True)
        assert len({rel.casefold() for rel in found}) == len(found) == files


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", True), ("a.JPeG", True), ("a.webp", True), ("a.tiff", True), ("a.heic", True)]
    + [("a.txt", False), ("jpg", False), (".jpg", False), ("a.jpg.txt", False), ("a.", False)],
)
def test_is_image_name(name, expected):
    assert is_image_name(name) is expected
    assert is_image_name(Path("folder") / name) is expected
