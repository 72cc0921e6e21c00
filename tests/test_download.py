"""Downloads from a local server that behaves well, badly, or as an enemy would."""

import hashlib
import os
import threading
import urllib.request
from dataclasses import replace
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from file_server import plain, redirect, running, serve
from small_models import openai_style_state

from ovseg_cli import download, web_answers, weights
from ovseg_cli.catalogue import Published
from ovseg_cli.download import Remote, ask, fetch, obtain
from ovseg_cli.errors import CheckpointError, NetworkError, OutputError, UsageError

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A home of the test's own, no proxy, no waiting between attempts; how long is listed."""
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    return slept


@pytest.fixture
def server():
    """Serves CONTENT until its `answer` is another."""
    with running(serve(CONTENT)) as state:
        yield state


def published(server, path: str = "/m.bin", **values: object) -> Published:
    given: dict[str, object] = {"urls": (server.url + path,)} | values
    return Published("mine", "a test", "none", "MIT", "here", "none", **given)  # type: ignore[arg-type]


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ignore(done: int, total: int | None) -> None:
    pass


def test_a_file_comes_whole_and_progress_is_told(server, tmp_path):
    told = []
    remote = ask(published(server))
    assert (remote.size_bytes, remote.sha256) == (len(CONTENT), None)
    fetch(remote, tmp_path / "d" / "m.bin", SHA256, lambda *values: told.append(values))
    assert (tmp_path / "d" / "m.bin").read_bytes() == CONTENT
    assert kept(tmp_path / "d") == [".m.bin.version", "m.bin"]
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [method for method, _, _ in server.seen] == ["HEAD", "GET"]


def test_a_broken_connection_is_made_again_where_it_broke(server, tmp_path):
    server.answer = serve(CONTENT, cut=1_000_000)
    fetch(ask(published(server)), tmp_path / "m.bin", SHA256, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    ranges = [asked for method, _, asked in server.seen if method == "GET"]
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"]


def after_a_cut(then):
    """Sends the first 1.2 MB of CONTENT, and to who wants to go on what `then` answers."""
    first = serve(CONTENT, cut=1_200_000)

    def answer(request):
        (then if request.headers.get("Range") else first)(request)

    return answer


def goes_on_where_it_was(server, remote, target):
    """A later call fetches just what is missing after `after_a_cut`."""
    assert not target.exists()
    server.answer = serve(CONTENT)
    server.seen.clear()
    fetch(remote, target, SHA256, ignore)
    assert server.seen == [("GET", "/m.bin", "bytes=1200000-")]
    return target.read_bytes() == CONTENT


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    remote = ask(published(server))
    server.answer = after_a_cut(plain(503))
    with pytest.raises(NetworkError, match=r"503.*1\.2 MB are kept"):
        fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert goes_on_where_it_was(server, remote, tmp_path / "m.bin")


PAGE = b"<html>Please accept our terms</html>"


@pytest.mark.parametrize(
    ("portal", "message"),
    [
        (serve(PAGE, ranges=False, Content_Type="text/html; charset=utf-8"), "web page"),
        (serve(PAGE, ranges=False), "another file than it announced"),
    ],
)
def test_a_page_that_comes_instead_of_the_rest_leaves_the_half_file(
    server, tmp_path, portal, message
):
    remote = ask(published(server))
    server.answer = after_a_cut(portal)
    with pytest.raises(NetworkError, match=rf"{message}.*1\.2 MB are kept"):
        fetch(remote, tmp_path / "m.bin", None, ignore)
    assert goes_on_where_it_was(server, remote, tmp_path / "m.bin")


def test_a_page_that_wants_a_visitor_to_sign_in_is_no_model(server):
    server.answer = serve(PAGE, Content_Type="text/html")
    with pytest.raises(NetworkError, match="web page comes instead of the model.*models import"):
        ask(published(server))


def test_a_file_that_is_packed_though_it_should_not_be_is_refused(server, tmp_path):
    remote = ask(published(server))
    server.answer = serve(CONTENT, Content_Encoding="gzip")
    with pytest.raises(NetworkError, match=r"packs the file \(gzip\)"):
        fetch(remote, tmp_path / "m.bin", None, ignore)
    assert "m.bin" not in kept(tmp_path)


def test_a_file_that_is_replaced_between_attempts_is_begun_anew(server, tmp_path):
    other = os.urandom(len(CONTENT))
    remote = ask(published(server))
    server.answer = after_a_cut(serve(other, tag='"v2"'))
    fetch(remote, tmp_path / "m.bin", None, ignore)
    assert (tmp_path / "m.bin").read_bytes() == other


@pytest.mark.parametrize(
    ("size", "tag"), [(len(CONTENT), '"v2"'), (2_500_000, '"v1"'), (3_500_000, '"v1"')]
)
def test_parts_of_two_versions_are_not_put_together(server, tmp_path, size, tag):
    """By a server that sends the rest of whatever it has now."""
    remote = ask(published(server))
    server.answer = after_a_cut(serve(os.urandom(size), tag=tag, heeds_tag=False))
    with pytest.raises(NetworkError, match="another file than it announced"):
        fetch(remote, tmp_path / "m.bin", None, ignore)
    assert (tmp_path / ".m.bin.partial").read_bytes() == CONTENT[:1_200_000]
    assert "m.bin" not in kept(tmp_path)


def test_a_half_file_of_another_version_is_not_gone_on_with(server, tmp_path):
    remote = ask(published(server))
    (tmp_path / ".m.bin.partial").write_bytes(b"x" * 1000)
    (tmp_path / ".m.bin.version").write_text('["elsewhere"]')
    fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    assert kept(tmp_path) == [".m.bin.version", "m.bin"]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    cuts = iter([2_000_000, None])

    def answer(request):
        cut = next(cuts) if request.command == "GET" else None
        serve(CONTENT, cut=cut, ranges=False)(request)

    server.answer = answer
    fetch(ask(published(server)), tmp_path / "m.bin", SHA256, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_a_server_that_refuses_every_rest_is_not_asked_for_ever(server, tmp_path):
    remote = ask(published(server))
    server.answer = after_a_cut(plain(416))
    with pytest.raises(NetworkError, match="ended too soon|416"):
        fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert len(server.seen) < 15


def test_what_came_before_a_silence_is_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(web_answers, "TIMEOUT", 0.3)
    over = threading.Event()

    def answer(request):
        serve(CONTENT, cut=900_000)(request)
        if request.command == "GET":
            over.wait(5)  # with the connection open

    server.answer = answer
    fetch(ask(published(server)), tmp_path / "m.bin", SHA256, ignore)
    over.set()
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_other_content_than_it_should_be_is_not_kept(server, tmp_path):
    with pytest.raises(CheckpointError, match="SHA-256 is another"):
        fetch(ask(published(server)), tmp_path / "m.bin", "0" * 64, ignore)
    assert kept(tmp_path) == []


def without_length(request):
    request.send_response(200)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(CONTENT)


def test_more_than_was_announced_is_not_kept(server, tmp_path):
    remote = replace(ask(published(server)), size_bytes=1000)
    server.answer = without_length
    with pytest.raises(CheckpointError, match="longer than its server said"):
        fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert kept(tmp_path) == []


def test_an_unannounced_length_is_read_to_its_end(server, tmp_path):
    server.answer = without_length
    remote = ask(published(server))
    assert remote.size_bytes is None
    fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_a_length_that_is_announced_late_counts(server, tmp_path):
    def answer(request):
        (without_length if request.command == "HEAD" else serve(CONTENT, cut=2_000_000))(request)

    server.answer = answer
    remote = ask(published(server))
    assert remote.size_bytes is None
    fetch(remote, tmp_path / "m.bin", None, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_the_hub_says_size_and_checksum_before_it_sends_us_on(server, tmp_path):
    linked = {"X_Linked_Size": str(len(CONTENT)), "X_Linked_ETag": f'"{SHA256}"'}

    def answer(request):
        if request.path == "/m.bin":
            redirect("/store/1", **linked)(request)
        else:  # what the store itself claims does not count
            serve(CONTENT, X_Linked_ETag='"' + "0" * 64 + '"')(request)

    server.answer = answer
    remote = ask(published(server))
    assert (remote.size_bytes, remote.sha256) == (len(CONTENT), SHA256)
    fetch(remote, tmp_path / "m.bin", remote.sha256, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    methods = [(method, path) for method, path, _ in server.seen]
    assert methods == [
        ("HEAD", "/m.bin"),
        ("HEAD", "/store/1"),
        ("GET", "/m.bin"),
        ("GET", "/store/1"),
    ]


@pytest.fixture
def store():
    """Another host than the server's; gives CONTENT with the SHA-256 of something else."""
    with running(serve(CONTENT, X_Linked_ETag='"' + "0" * 64 + '"')) as state:
        yield state


def test_a_renamed_repository_is_still_the_hub_s_own(server, store):
    linked = {"X_Linked_Size": str(len(CONTENT)), "X_Linked_ETag": f'"{SHA256}"'}
    answers = {
        "/m.bin": redirect("/new/m.bin", 307),
        "/new/m.bin": redirect(f"{server.url}/newest/m.bin", 301),
        "/newest/m.bin": redirect(f"{store.url}/1", **linked),
    }
    server.answer = lambda request: answers[request.path](request)
    remote = ask(published(server))
    assert (remote.size_bytes, remote.sha256) == (len(CONTENT), SHA256)


def test_the_word_of_another_host_does_not_count(server, store):
    server.answer = redirect(f"{store.url}/1")
    remote = ask(published(server))
    assert (remote.size_bytes, remote.sha256) == (len(CONTENT), None)
    # Nor does that of the asked one, once the other has chosen the file.
    answers = {
        "/m.bin": redirect(f"{store.url}/1"),
        "/chosen": serve(CONTENT, X_Linked_ETag=f'"{SHA256}"'),
    }
    server.answer = lambda request: answers[request.path](request)
    store.answer = redirect(f"{server.url}/chosen")
    assert ask(published(server)).sha256 is None


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://a/b"])
def test_a_redirect_that_leaves_the_web_is_not_followed(server, tmp_path, target):
    server.answer = redirect(target)
    with pytest.raises(NetworkError):
        ask(published(server))
    remote = Remote(server.url + "/m.bin", 100, None, '"v"')
    with pytest.raises(NetworkError):
        fetch(remote, tmp_path / "m.bin", None, ignore)
    assert "m.bin" not in kept(tmp_path)


def test_a_redirect_from_a_secure_address_to_an_open_one_is_not_followed():
    request = urllib.request.Request("https://hub.example/m.bin")
    follow = web_answers.Redirects().redirect_request
    with pytest.raises(URLError, match="http://hub.example, which is not secure"):
        follow(request, None, 302, "Found", Message(), "http://me:secret@hub.example/m?sign=1")
    assert follow(request, None, 302, "Found", Message(), "https://store.example/m.bin")


def test_a_circle_of_redirects_ends(server):
    server.answer = redirect("/again")
    with pytest.raises(NetworkError):
        ask(published(server))
    assert len(server.seen) < 15


def test_the_next_address_is_asked_where_the_first_has_nothing(server):
    def answer(request):
        if request.path == "/first":
            request.send_error(404)
        else:
            serve(CONTENT)(request)

    server.answer = answer
    urls = (f"{server.url}/first", f"{server.url}/second")
    assert ask(published(server, urls=urls)).url == urls[1]
    with pytest.raises(NetworkError, match="404"):
        ask(published(server, "/first"))


def test_a_refusal_is_not_asked_again(server, tmp_path):
    remote = ask(published(server))
    server.answer = lambda request: request.send_error(403)
    server.seen.clear()
    with pytest.raises(NetworkError, match="403"):
        fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_file_for_others_says_so(server, status):
    server.answer = plain(status)
    with pytest.raises(NetworkError, match=f"{status}.*ovseg sends no token.*models import") as got:
        ask(published(server))
    assert "moved" not in str(got.value)


def test_a_server_with_too_many_requests_is_asked_when_it_says(server, alone):
    answers = iter([plain(429, Retry_After="7"), plain(429), serve(CONTENT)])
    server.answer = lambda request: next(answers)(request)
    assert ask(published(server)).size_bytes == len(CONTENT)
    assert alone == [7, web_answers.PAUSE]


@pytest.mark.parametrize(("pause", "requests"), [("3600", 1), ("1", 1 + web_answers.PAUSES)])
def test_a_server_with_too_many_requests_for_long(server, pause, requests):
    server.answer = plain(429, Retry_After=pause)
    with pytest.raises(NetworkError, match=f"too many requests; repeat .* in {pause} s") as got:
        ask(published(server))
    assert "moved" not in str(got.value)
    assert len(server.seen) == requests


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_knows_no_head_is_asked_for_a_byte(server, tmp_path, ranges):
    def answer(request):
        (plain(405) if request.command == "HEAD" else serve(CONTENT, ranges=ranges))(request)

    server.answer = answer
    remote = ask(published(server))
    assert (remote.size_bytes, remote.version) == (len(CONTENT), '"v1"')
    fetch(remote, tmp_path / "m.bin", SHA256, ignore)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_offline(server, tmp_path):
    offline = published(server, urls=("http://127.0.0.1:9/m.bin",))  # the port for discarding
    with pytest.raises(NetworkError, match=r"no connection to 127\.0\.0\.1:9.*are you online"):
        ask(offline)


def test_what_is_not_offered_says_how_to_get_it(server):
    with pytest.raises(UsageError, match="ask the authors"):
        ask(published(server, urls=(), by_hand="ask the authors"))


@pytest.mark.parametrize("free", [1_000_000, 5_000_000])
def test_a_disk_that_is_known_to_be_too_small_is_not_begun(server, tmp_path, monkeypatch, free):
    """For the file, or for the model beside it."""
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    remote = ask(published(server))
    server.seen.clear()
    with pytest.raises(OutputError, match=f"3 MB, and as much.* {free // 10**6} MB are free"):
        fetch(remote, tmp_path / "d" / "m.bin", SHA256, ignore)
    assert server.seen == []
    assert kept(tmp_path / "d") == []


def test_a_disk_that_fills_up_keeps_nothing(server, tmp_path):
    target = Path("/dev/full")
    if not target.exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "d").mkdir()
    remote = ask(published(server))
    # The half file's name leads to a device that is always full.
    version = download.json.dumps([remote.url, remote.version, remote.size_bytes])
    (tmp_path / "d" / ".m.bin.version").write_text(version)
    (tmp_path / "d" / ".m.bin.partial").symlink_to(target)
    with pytest.raises(OutputError, match="No space left"):
        fetch(remote, tmp_path / "d" / "m.bin", SHA256, ignore)
    assert kept(tmp_path / "d") == []


def test_a_file_where_a_folder_should_be(server, tmp_path, monkeypatch):
    (tmp_path / "home").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        fetch(ask(published(server)), tmp_path / "home" / "m.bin", SHA256, ignore)
    remote = ask(published(server))
    server.seen.clear()
    with pytest.raises(UsageError, match="cannot write to .*home is not a folder"):
        obtain(published(server), remote, ignore)
    assert server.seen == []


@pytest.fixture
def clip_file(tmp_path) -> bytes:
    """A small CLIP as open_clip stores it."""
    torch.save(openai_style_state(), tmp_path / "clip.bin")
    return (tmp_path / "clip.bin").read_bytes()


OPTIONS = {"gelu": "exact", "visual_heads": 2, "text_heads": 2}


def test_a_downloaded_clip_is_a_model_of_its_name(server, clip_file):
    server.answer = serve(clip_file)
    wanted = published(server, options=OPTIONS)
    entry = obtain(wanted, ask(wanted), ignore)
    assert (entry.name, entry.licence, entry.description) == ("mine", "MIT", "a test")
    loaded = weights.load(weights.find("mine").path)
    assert loaded.config.visual.gelu == "exact"
    weights.verify(entry)
    assert kept(weights.home() / "downloads") == []


@pytest.mark.parametrize("trouble", [OutputError("no space"), KeyboardInterrupt()])
def test_a_file_that_could_not_be_imported_is_not_fetched_again(
    server, clip_file, monkeypatch, trouble
):
    def fail(*arguments, **options):
        raise trouble

    server.answer = serve(clip_file)
    wanted = published(server, options=OPTIONS)
    with monkeypatch.context() as patched, pytest.raises(type(trouble)):
        patched.setattr(download, "import_checkpoint", fail)
        obtain(wanted, ask(wanted), ignore)
    server.seen.clear()
    assert obtain(wanted, ask(wanted), ignore).name == "mine"
    assert [method for method, _, _ in server.seen] == ["HEAD"]
    assert kept(weights.home() / "downloads") == []


def test_where_no_model_can_be_written_none_is_fetched(server, clip_file):
    server.answer = serve(clip_file)
    weights.home().mkdir()
    (weights.home() / "models").write_text("")
    wanted = published(server, options=OPTIONS)
    remote = ask(wanted)
    server.seen.clear()
    with pytest.raises(UsageError, match="cannot write to .*models is not a folder"):
        obtain(wanted, remote, ignore)
    assert server.seen == []


def test_a_file_that_does_not_fit_its_entry_is_not_the_user_s_fault(server, clip_file):
    server.answer = serve(clip_file)
    wanted = published(server)  # without the heads that its tensors do not tell
    with pytest.raises(CheckpointError, match="m.bin does not fit what is known of mine .*heads"):
        obtain(wanted, ask(wanted), ignore)
    assert kept(weights.home() / "downloads") == []


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["pickle", "lying header", "web page"])
def test_what_is_no_model_is_neither_run_nor_kept(server, tmp_path, kind):
    path = "/m.bin"
    if kind == "pickle":
        torch.save({"visual.proj": Malicious(tmp_path / "owned")}, tmp_path / "evil.bin")
        content = (tmp_path / "evil.bin").read_bytes()
    elif kind == "lying header":
        content, path = (1 << 40).to_bytes(8, "little") + b'{"a":{}}', "/m.safetensors"
    else:
        content = PAGE
    server.answer = serve(content)
    wanted = published(server, path)
    message = "is a web page" if kind == "web page" else "cannot be read as plain tensors"
    with pytest.raises(CheckpointError, match=message):
        obtain(wanted, ask(wanted), ignore)
    assert not (tmp_path / "owned").exists()
    assert kept(weights.home() / "downloads") == []
    assert not (weights.home() / "models").exists()


def test_proxies_of_the_environment_are_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    assert ask(published(server, urls=("http://hub.example/m.bin",))).size_bytes == len(CONTENT)
    assert server.seen == [("HEAD", "http://hub.example/m.bin", None)]
