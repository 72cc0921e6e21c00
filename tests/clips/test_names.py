"""What the results of a clip are called."""

import pytest

from ovseg_cli.clips.names import clip_names, is_stream


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/videos/My clip.mp4", "My clip"),
        ("clip.tar.mp4", "clip.tar"),
        ("-", "stdin"),
        ("camera:1", "camera-1"),
        ("rtsp://user@host:554/live/front%20door?x=1", "front-door"),
        ("http://host/", "host"),
        ("https://host/../..", "stream"),
        ("ähre.mov", "ähre"),
    ],
)
def test_a_clip_alone(source, name):
    assert clip_names([source]) == [name]


def test_a_folder_keeps_its_whole_name(tmp_path):
    (tmp_path / "take.1").mkdir()
    assert clip_names([str(tmp_path / "take.1")]) == ["take.1"]
    assert clip_names([f"{tmp_path / 'take.1'}/"]) == ["take.1"]


def test_a_link_has_its_own_name(tmp_path):
    """Programs that keep data by their checksums put links to it in place of files."""
    (tmp_path / "3f2a9c").touch()
    (tmp_path / "blobs").mkdir()
    links = [tmp_path / name for name in ("clip.mp4", "again.mp4", "take.1")]
    for link, target in zip(links, ("3f2a9c", "3f2a9c", "blobs"), strict=True):
        link.symlink_to(target)
    assert clip_names(list(map(str, links))) == ["clip", "again", "take.1"]


def test_a_folder_by_its_place(tmp_path, monkeypatch):
    (tmp_path / "take.1" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "take.1" / "more")
    assert clip_names(["."]) == ["more"] and clip_names([".."]) == ["take.1"]


def test_clips_that_would_have_one_name():
    assert clip_names(["a/x.mp4", "a/x.MOV", "y.mp4"]) == ["x.mp4", "x.MOV", "y"]
    assert clip_names(["a/x.mp4", "b/x.mp4", "c/X.mp4"]) == ["x.mp4", "x.mp4-2", "X.mp4-3"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_counted_name_may_be_another_clips_own(order, tmp_path):
    sources = [("a/clip", "b/clip", "c/clip-2")[i] for i in order]
    for source in sources:
        (tmp_path / source).mkdir(parents=True)
    names = clip_names([str(tmp_path / source) for source in sources])
    assert sorted(names) == ["clip", "clip-2", "clip-3"]
    assert names[sources.index("c/clip-2")] == "clip-2"


def test_no_name_leads_out_of_the_folder():
    for name in clip_names(["http://h/%2e%2e", "http://h/a%2Fb%2F..%2Fc.mp4", "..", "/"]):
        assert "/" not in name and name not in ("", ".", "..")


@pytest.mark.parametrize("file", ["...mp4", "..mp4", "....mkv"])
def test_a_file_of_dots_is_called_clip(file):
    assert clip_names([file]) == ["clip"]


def test_a_long_name_leaves_room_for_suffixes(tmp_path):
    """File systems count bytes, of which a letter may have four."""
    for letter in ("a", "\u3042", "\U0001f600"):
        (name,) = clip_names([str(tmp_path / f"{letter * (250 // len(letter.encode()))}.mp4")])
        (tmp_path / f"clip-{name}.timeline.png").touch()
        assert set(name) == {letter}


def test_streams():
    assert all(map(is_stream, ["-", "camera:0", "rtsp://host/a"]))
    assert not any(map(is_stream, ["a.mp4", "folder", "./-"]))
