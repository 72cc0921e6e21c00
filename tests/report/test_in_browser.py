"""The page as a browser shows it, opened from disk."""

import functools
import http.server
import json
import os
import shutil
import threading
import time
import unicodedata
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hostile_names import HOSTILE
from mock_segmenter import colored, make_photo

from ovseg_cli.report.accuracy import Accuracy
from ovseg_cli.report.page import EMBEDDED_BYTES, thumbnails_folder, write_page
from ovseg_cli.report.thumbnails import Thumbnails, write_thumbnails
from ovseg_cli.run_folder.finished_run import read_run

NAMES = "[...document.querySelectorAll('.card h3')].map(title => title.textContent)"

SCROLL = "scrollTo({top: document.body.scrollHeight, behavior: 'instant'})"  # to the end


def write_report(out, accuracy=None):
    """The page of an output folder; returns its address."""
    run, target = read_run(out), out / "report.html"
    small = list(write_thumbnails(run, thumbnails_folder(target)))
    write_page(target, run, small, accuracy)
    return target.as_uri()


def fill(browser, name, value):
    """Type into a field of the filters, as far as the page can tell."""
    browser.evaluate(
        f"{{ const field = document.getElementById('filters').elements[{name!r}];"
        f" field.value = {value!r}; field.dispatchEvent(new Event('input', {{bubbles: true}})) }}"
    )


def tick(browser, name):
    browser.evaluate(
        "[...document.querySelectorAll('#classes-body label')]"
        f".find(label => label.textContent === {name!r}).click()"
    )


def test_it_renders(browser, run_of_three):
    browser.open(write_report(run_of_three))
    assert browser.evaluate("document.title") == "out: ovseg report"
    assert browser.evaluate(NAMES) == ["10/grey.png", "street.png", "blue.png"]
    bars = browser.evaluate(
        "[...document.querySelectorAll('#classes-body tr')].map(row => row.textContent)"
    )
    assert bars == ["road50.0%2", "sky33.3%1", "car16.7%1"]
    widths = browser.evaluate(
        "[...document.querySelectorAll('#classes-body .fill')]"
        ".map(bar => Math.round(bar.getBoundingClientRect().width /"
        " bar.parentElement.getBoundingClientRect().width * 100))"
    )
    assert widths == [100, 67, 33]
    failures = browser.evaluate("document.getElementById('failures-body').textContent")
    assert failures.endswith("broken.pngthe file is empty")
    assert "ovseg segment photos" in browser.evaluate("document.getElementById('run').textContent")
    assert browser.evaluate("document.getElementById('notice').hidden") is True
    browser.until(f"{SCROLL}, [...document.images].every(image => image.naturalWidth === 60)")
    assert browser.complaints == []


@pytest.mark.parametrize("most", [0, EMBEDDED_BYTES])
def test_nothing_is_asked_of_any_network(browser, run_of_three, monkeypatch, most):
    """All that the page asks for are its own thumbnails, on disk, or in it."""
    monkeypatch.setattr("ovseg_cli.report.page.EMBEDDED_BYTES", most)
    browser.open(write_report(run_of_three))
    browser.until(f"{SCROLL}, [...document.images].every(image => image.complete)")
    own = "data:image/jpeg;" if most else run_of_three.as_uri()
    assert browser.requests[0] == (run_of_three / "report.html").as_uri()
    assert len(browser.requests) == 7  # the page, three photos and three overlays
    assert all(url.startswith(own) for url in browser.requests[1:])


def test_the_page_alone_shows_its_pictures(browser, run_of_three, tmp_path):
    """As it is when somebody has been sent it."""
    write_report(run_of_three)
    page = (run_of_three / "report.html").rename(tmp_path / "sent.html")
    shutil.rmtree(run_of_three)
    browser.open(page.as_uri())
    browser.until(f"{SCROLL}, [...document.images].every(image => image.naturalWidth === 60)")
    assert browser.evaluate("document.images.length") == 6
    assert browser.complaints == []


def test_the_axes_of_very_many_photos(browser, run_of_three):
    browser.open(write_report(run_of_three))
    ticks = browser.evaluate("axis(Array.from({length: 300000}, (_, n) => n / 300000)).ticks")
    assert ticks == [0, 0.2, 0.4, 0.6, 0.8, 1]


def test_a_run_json_from_elsewhere_costs_only_what_it_tells(browser, run_of_three):
    for text in (
        '{"timing": null, "model": 7, "counts": [], "options": "x", "status": {}}',
        '{"timing": {"started": 2026}, "command": 5, "counts": {"not_processed": {}}}',
    ):
        (run_of_three / "run.json").write_text(text)
        browser.open(write_report(run_of_three))
        assert len(browser.evaluate(NAMES)) == 3 and browser.complaints == []


def test_the_policy_stops_what_would_ask(browser, run_of_three):
    """Even a script of the page itself can reach no server."""
    hits = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        browser.open(write_report(run_of_three))
        outcome = browser.evaluate(
            f"""(async () => {{
            const image = new Image();
            const seen = new Promise(done => {{
                image.onload = () => done("loaded"); image.onerror = () => done("refused") }});
            image.src = "{address}/image";
            const sent = await fetch("{address}/fetch").then(() => "sent", () => "refused");
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const spot = document.createElement("div");
            spot.innerHTML = "<img src=x onerror='window.ran = true'>";
            document.body.append(spot);
            await new Promise(done => setTimeout(done, 300));
            return [await seen, sent, window.ran === undefined];
            }})()"""
        )
    finally:
        server.shutdown()
        server.server_close()
    assert outcome == ["refused", "refused", True]
    assert hits == []


def test_hostile_names_run_nothing(browser, make_run, tmp_path):
    photos = []
    for number, name in enumerate(HOSTILE):
        file = name.replace("/", "∕")
        photo = make_photo(tmp_path / "photos" / f"{number}.png", seed=number)
        photos.append((photo.rename(tmp_path / "photos" / file), file))
    classes = [*(n for n in HOSTILE if "\n" not in n), "<b>bold</b>"]
    failures = [(tmp_path / "<img src=x onerror=alert(2)>", "<script>alert(3)</script>")]
    browser.screen(1200, 5000)  # all pictures are in sight, and so loaded
    browser.open(write_report(make_run(photos, classes, failures=failures)))
    browser.until("[...document.images].every(image => image.complete)")
    names = browser.evaluate(NAMES)
    assert (
        sorted(names)[:2]
        == sorted(name.replace("/", "∕") for name in HOSTILE if name.isprintable())[:2]
    )
    assert len(names) == len(HOSTILE) and all(name.isprintable() for name in names)
    assert browser.evaluate("document.querySelectorAll('script, b, iframe').length") == 2
    assert browser.evaluate("[...document.images].every(i => i.loading === 'lazy')")
    # Neither do they when they come back out of the address.
    fill(browser, "name", "<img src=x onerror=alert(1)>")
    assert browser.evaluate(NAMES) == [HOSTILE[0].replace("/", "∕")]
    assert browser.dialogs == [] and browser.complaints == []


def test_filters(browser, run_of_three):
    browser.open(write_report(run_of_three))
    count = "document.getElementById('count').textContent"
    fill(browser, "name", "REE")
    assert browser.evaluate(NAMES) == ["street.png"]
    assert browser.evaluate(count) == "1 of 3 photos"
    fill(browser, "name", "")
    fill(browser, "class", "1")
    assert browser.evaluate(NAMES) == ["10/grey.png", "street.png"]
    fill(browser, "area-from", "60")
    assert browser.evaluate(NAMES) == ["10/grey.png"]
    fill(browser, "area-from", "")
    fill(browser, "area-to", "50")
    assert browser.evaluate(NAMES) == ["street.png"]
    fill(browser, "class", "")
    fill(browser, "area-to", "")
    fill(browser, "confidence-from", "39.9")
    fill(browser, "confidence-to", "40.1")
    assert browser.evaluate(NAMES) == ["street.png"]
    browser.evaluate("document.querySelector('#filters button').click()")
    browser.until(f"{count} === '3 photos'")


def test_order(browser, run_of_three):
    browser.open(write_report(run_of_three))
    for order, expected in {
        "confident": ["blue.png", "street.png", "10/grey.png"],
        "name": ["10/grey.png", "blue.png", "street.png"],
        "area": ["10/grey.png", "blue.png", "street.png"],
        "": ["10/grey.png", "street.png", "blue.png"],
    }.items():
        fill(browser, "order", order)
        assert browser.evaluate(NAMES) == expected


def test_ticks_of_classes(browser, run_of_three):
    browser.open(write_report(run_of_three))
    tick(browser, "road")
    assert browser.evaluate(NAMES) == ["street.png", "blue.png"]
    listed = "document.querySelector('.card .areas').textContent"
    assert browser.evaluate(listed) == "car50.0%40.0%"
    off = "document.querySelectorAll('#classes-body tr.off').length"
    assert browser.evaluate(off) == 1
    tick(browser, "road")
    assert len(browser.evaluate(NAMES)) == 3
    browser.evaluate("document.querySelectorAll('#all-or-none button')[1].click()")
    assert browser.evaluate(NAMES) == [] and browser.evaluate(off) == 3
    browser.evaluate("document.querySelectorAll('#all-or-none button')[0].click()")
    assert len(browser.evaluate(NAMES)) == 3


def test_a_view_is_kept_in_the_address(browser, run_of_three):
    address = write_report(run_of_three)
    browser.open(address)
    fill(browser, "order", "name")
    tick(browser, "sky")
    browser.until("location.hash === '#order=name&hidden=0'")
    browser.open("about:blank")
    browser.open(f"{address}#order=name&hidden=0&class=77&name=")
    assert browser.evaluate(NAMES) == ["10/grey.png", "street.png"]
    assert browser.evaluate("document.getElementById('filters').elements.order.value") == "name"
    browser.evaluate("location.hash = '#photos'")
    assert len(browser.evaluate(NAMES)) == 2


def test_the_slider_by_keyboard_and_all_at_once(browser, run_of_three):
    browser.open(write_report(run_of_three))
    split = "getComputedStyle(document.querySelector('.picture .overlay')).clipPath"
    assert browser.evaluate(split) == "inset(0px 0px 0px 50%)"
    browser.evaluate("document.querySelector('.picture input').focus()")
    browser.press("ArrowRight")
    assert browser.evaluate(split) == "inset(0px 0px 0px 51%)"
    browser.press("Home")
    assert browser.evaluate(split) == "inset(0px 0px 0px 0%)"
    browser.evaluate("document.getElementById('split').focus()")
    browser.press("End")
    assert browser.evaluate(split) == "inset(0px 0px 0px 100%)"
    assert browser.evaluate("document.querySelector('.picture input').value") == "100"


def test_all_controls_can_be_reached_and_have_names(browser, run_of_three):
    browser.open(write_report(run_of_three))
    reached = set()
    for _ in range(60):
        browser.press("Tab")
        focused = browser.evaluate(
            "(({tagName, id, type, name, textContent}) =>"
            " [tagName, id, type || '', name || '', textContent.slice(0, 20)].join('|'))"
            "(document.activeElement)"
        )
        visible = browser.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle !== 'none' ||"
            " document.activeElement === document.body"
        )
        assert visible, focused
        reached.add(focused)
    kinds = " ".join(reached)
    for part in ("checkbox", "search", "class", "area-from", "confidence-to", "order", "Skip to"):
        assert part in kinds
    nameless = browser.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter(field =>"
        " !(field.ariaLabel || field.textContent.trim() || (field.labels || [])[0])).length"
    )
    assert nameless == 0
    assert browser.evaluate("[...document.images].every(image => image.alt)")


def colors(browser):
    """Text and ground of the body as three numbers each."""
    return browser.evaluate(
        "['color', 'backgroundColor'].map(name =>"
        " getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )


def test_dark_and_light(browser, run_of_three):
    address = write_report(run_of_three)
    for dark in (False, True):
        browser.screen(1200, 900, dark=dark)
        browser.open(address)
        text, ground = colors(browser)
        assert (sum(text) > sum(ground)) == dark
        assert abs(sum(text) - sum(ground)) > 450


@pytest.mark.parametrize("width", [320, 400, 800, 1600])
def test_nothing_is_wider_than_the_screen(browser, make_run, tmp_path, width):
    long = "a-very-long-name-without-any-blank-" * 4
    photo = make_photo(tmp_path / "photos" / "p.png")
    out = make_run([(photo, long)], [long, "sky"], failures=[(tmp_path / f"{long}.png", long)])
    browser.screen(width, 900, phone=width < 600)
    browser.open(write_report(out))
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    clipped = browser.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, p, dd, dt, td, th, button, label')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0)"
        ".map(e => e.tagName + e.className + e.textContent.slice(0, 30))"
    )
    assert clipped == []


def test_photos_that_are_gone_are_said_to_be(browser, run_of_three, tmp_path):
    (tmp_path / "photos/blue.png").unlink()
    (run_of_three / "run.json").unlink()
    browser.open(write_report(run_of_three))
    card = "[...document.querySelectorAll('.card')].find(c => c.textContent.includes('blue'))"
    assert "Overlay only: the photo is no longer" in browser.evaluate(f"{card}.textContent")
    assert browser.evaluate(f"{card}.querySelectorAll('input').length") == 0
    notice = browser.evaluate("document.getElementById('notice').textContent")
    assert "killed" in notice and "1 photo could not be found" in notice


def test_photos_that_may_have_changed_are_shown_and_said_to_be(browser, run_of_three, tmp_path):
    os.utime(tmp_path / "photos/blue.png", ns=(1, 1))
    browser.open(write_report(run_of_three))
    cards = "[...document.querySelectorAll('.card')]"
    said = browser.evaluate(
        f"{cards}.filter(card => card.textContent.includes('may have changed since the run'))"
        ".map(card => [card.querySelector('h3').textContent, card.querySelectorAll('img').length])"
    )
    assert said == [["blue.png", 2]]
    notice = browser.evaluate("document.getElementById('notice').textContent")
    assert "1 photo may have changed since the run" in notice


def test_a_run_of_failures_only(browser, make_run, tmp_path):
    browser.open(write_report(make_run([], failures=[(tmp_path / "a.png", "no")])))
    assert browser.evaluate("document.getElementById('count').textContent") == "0 photos"
    assert "a.png" in browser.evaluate("document.getElementById('failures').textContent")
    assert browser.complaints == []


class Known(Accuracy):
    """IoU that is told beforehand."""

    def __init__(self, photos):
        self.data = SimpleNamespace(name="<truth>")
        self.not_named, self.photos = ("dog",), photos
        self.other_size, self.unread = [], {}

    def iou(self):
        return {1: 0.25, 2: float("nan")}

    def mean_iou(self):
        return 0.25


def test_scores_beside_the_photos(browser, run_of_three):
    browser.open(write_report(run_of_three, Known({"blue": 0.9, "street": 0.1})))
    assert browser.evaluate("document.querySelectorAll('#scatter circle').length") == 2
    said = browser.evaluate("document.getElementById('agreement-text').textContent")
    assert "2 photos of 3 have labels in <truth>. Correlation of confidence and IoU: 1.00." in said
    assert "no name for: dog" in said
    title = browser.evaluate("document.querySelector('#scatter svg > title').textContent")
    assert title.startswith("Confidence against IoU of 2 photos, correlation 1.00")
    fill(browser, "order", "wrong")
    assert browser.evaluate(NAMES) == ["street.png", "blue.png", "10/grey.png"]
    fill(browser, "order", "right")
    assert browser.evaluate(NAMES) == ["blue.png", "street.png", "10/grey.png"]
    scores = browser.evaluate("[...document.querySelectorAll('.scores')].map(s => s.textContent)")
    assert scores[0] == "confidence80.0%IoU90.0%" and scores[2].endswith("IoUno labels")
    fill(browser, "name", "street")
    assert browser.evaluate("document.querySelectorAll('#scatter circle.off').length") == 1
    browser.evaluate("document.querySelector('#scatter circle').dispatchEvent(new Event('click'))")
    assert len(browser.evaluate(NAMES)) == 1
    iou = "[...document.querySelectorAll('#classes-body tr td:last-child')].map(c => c.textContent)"
    assert browser.evaluate(iou) == ["25.0%", "–", "–"]
    assert browser.complaints == []


def test_labels_without_an_iou_are_no_missing_labels(browser, run_of_three):
    known = Known({"blue": 0.9, "street": float("nan")})
    known.other_size = ["10/grey"]
    browser.open(write_report(run_of_three, known))
    said = browser.evaluate("document.getElementById('agreement-text').textContent")
    assert "3 photos of 3 have labels in <truth>." in said
    assert "1 photo left out: the labels have another size." in said
    assert "1 photo without an IoU: the labels show none of the classes" in said
    scores = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.card')].map(card =>"
        " [card.querySelector('h3').textContent,"
        "  card.querySelector('.scores > :last-child').textContent]))"
    )
    assert scores == {
        "blue.png": "IoU90.0%",
        "street.png": "IoUnone of the classes",
        "10/grey.png": "IoUlabels of another size",
    }


def test_labels_that_cannot_be_read_are_told(browser, run_of_three):
    known = Known({"blue": 0.9})
    known.unread = {"street": "labels/street.png cannot be read"}
    browser.open(write_report(run_of_three, known))
    said = browser.evaluate("document.getElementById('agreement-text').textContent")
    assert "2 photos of 3 have labels in <truth>." in said
    assert "1 photo left out: the labels cannot be read." in said
    scores = browser.evaluate("[...document.querySelectorAll('.scores')].map(s => s.textContent)")
    assert sum(text.endswith("IoUlabels that cannot be read") for text in scores) == 1


def test_a_point_of_the_scatter_leads_to_its_photo(browser, make_run, tmp_path):
    """Also where other names hold its own, and where filters or ticks have left it out."""
    reds = {"a": 0, "ba": 1, "ca": 1}
    photos = [
        (colored(tmp_path / f"photos/{name}.png", red, 51 * (3 - number)), name)
        for number, (name, red) in enumerate(reds.items())
    ]
    browser.open(write_report(make_run(photos), Known({"a": 0.2, "ba": 0.5, "ca": 0.8})))
    fill(browser, "class", "1")
    fill(browser, "area-to", "10")
    tick(browser, "sky")
    off = "document.querySelectorAll('#scatter circle.off').length"
    assert browser.evaluate(NAMES) == [] and browser.evaluate(off) == 3
    browser.evaluate(
        "[...document.querySelectorAll('#scatter circle')]"
        ".find(point => point.textContent.startsWith('a.png')).dispatchEvent(new Event('click'))"
    )
    assert browser.evaluate(NAMES) == ["a.png", "ca.png", "ba.png"]
    assert browser.evaluate(off) == 0
    assert browser.evaluate("document.querySelectorAll('#classes-body tr.off').length") == 0
    browser.until("location.hash === '#name=a.png'")


def test_the_chosen_class_is_the_first_that_a_card_lists(browser, run_of_three):
    """It may be a small one of many, of which a card lists the largest only."""
    journal = run_of_three / ".ovseg/journal.jsonl"
    areas = json.dumps([[n, pixels, 0.5] for n, pixels in enumerate((800, 600, 500, 300, 200))])
    assert "[[0,2400,0.8]]" in journal.read_text()
    journal.write_text(journal.read_text().replace("[[0,2400,0.8]]", areas))
    classes = json.loads((run_of_three / "classes.json").read_text())
    classes += [{**classes[0], "name": name} for name in ("tree", "dog")]
    (run_of_three / "classes.json").write_text(json.dumps(classes))
    browser.open(write_report(run_of_three))
    listed = (
        "[...[...document.querySelectorAll('.card')].find(c => c.textContent.includes('blue.png'))"
        ".querySelectorAll('.areas .name')].map(name => name.textContent)"
    )
    assert browser.evaluate(listed) == ["sky", "road", "car", "tree"]
    fill(browser, "class", "4")
    assert browser.evaluate(listed) == ["dog", "sky", "road", "car"]
    fill(browser, "class", "")
    assert browser.evaluate(listed) == ["sky", "road", "car", "tree"]


def test_what_is_unlabelled_is_no_class_of_the_run(browser, run_of_three):
    journal = run_of_three / ".ovseg/journal.jsonl"
    journal.write_text(journal.read_text().replace("[[0,2400", "[[-1,2400"))
    browser.open(write_report(run_of_three))
    assert browser.evaluate("document.querySelectorAll('#classes-body .unlabelled').length") > 0
    summary = browser.evaluate("document.getElementById('summary').textContent")
    assert summary.startswith("3 photos · 3 classes")


def test_a_chosen_class_without_its_tick_shows_no_photo(browser, run_of_three):
    browser.open(write_report(run_of_three))
    fill(browser, "class", "1")
    tick(browser, "road")
    assert browser.evaluate(NAMES) == []
    tick(browser, "road")
    assert browser.evaluate(NAMES) == ["10/grey.png", "street.png"]


def test_the_slider_of_all_moves_those_that_are_filtered_out(browser, run_of_three):
    browser.open(write_report(run_of_three))
    fill(browser, "name", "street")
    browser.evaluate(
        "{ const split = document.getElementById('split'); split.value = 20;"
        " split.dispatchEvent(new Event('input')) }"
    )
    fill(browser, "name", "")
    own = "[...document.querySelectorAll('.picture input')].map(split => split.value)"
    assert browser.evaluate(own) == ["20"] * 3


def test_filters_go_by_what_the_page_shows(browser, make_run, tmp_path):
    """Names whose accents are letters of their own; numbers that are rounded."""
    photo = colored(tmp_path / "photos/plain.png", (0, 1), 51).rename(
        tmp_path / "photos" / unicodedata.normalize("NFD", "café.png")
    )
    out = make_run([(photo, unicodedata.normalize("NFD", "café"))])
    journal = out / ".ovseg/journal.jsonl"
    lines = journal.read_text().replace("[0,1200,", "[0,1201,").replace("[1,1200,", "[1,1198,")
    journal.write_text(lines.replace("[1,1198,", "[1,1197,0.2],[2,2,"))  # 50.04, 49.88, 0.08 %
    browser.open(write_report(out))
    shown = f"{NAMES}.length"
    fill(browser, "name", unicodedata.normalize("NFC", "CAFÉ"))
    assert browser.evaluate(shown) == 1
    for chosen, least, most, expected in (
        *(("0", "50", "50", 1), ("0", "50.1", "", 0), ("0", "", "49.9", 0)),
        *(("1", "49.9", "49.9", 1), ("2", "0.1", "", 0), ("2", "0", "0.1", 1)),
    ):
        for field, value in (("class", chosen), ("area-from", least), ("area-to", most)):
            fill(browser, field, value)
        assert browser.evaluate(shown) == expected, (chosen, least, most)


def test_a_link_to_a_section_leaves_the_view_in_the_address(browser, run_of_three):
    browser.screen(1200, 500)
    browser.open(write_report(run_of_three))
    fill(browser, "order", "name")
    browser.until("location.hash === '#order=name'")
    for section in ("run", "photos", "classes"):
        browser.evaluate(f"document.querySelector('#contents a[href=\"#{section}\"]').click()")
        assert browser.evaluate("document.activeElement.id") == section
        browser.until(
            f"(({{top, bottom}}) => top < innerHeight && bottom > 0)"
            f"(document.getElementById('{section}').getBoundingClientRect())"
        )
    browser.evaluate("document.querySelector('.skip').click()")
    assert browser.evaluate("document.activeElement.id") == "photos"
    assert browser.evaluate("location.hash") == "#order=name"


def test_without_overlays_there_is_no_slider_and_no_word_of_them(browser, make_run, tmp_path):
    paths = [colored(tmp_path / f"photos/{name}.png", 0, 51) for name in "ab"]
    out = make_run([(path, path.stem) for path in paths], save=[])
    hidden = "document.getElementById('split').closest('label').hidden"
    notice = "document.getElementById('notice').textContent"
    browser.open(write_report(out))
    assert browser.evaluate(hidden) is True
    paths[0].unlink()
    browser.open(write_report(out))
    assert "1 photo could not be found as the run saw it: no picture" in browser.evaluate(notice)
    assert "verlay" not in browser.evaluate(notice)
    paths[1].unlink()
    out = make_run([(colored(paths[1], 0, 51), "b")], out="with-overlays")
    browser.open(write_report(out))
    assert browser.evaluate(hidden) is False


def test_the_keyboard_goes_on_with_what_was_added(browser, make_run, tmp_path):
    failures = [(tmp_path / f"broken/{number}.png", "empty") for number in range(30)]
    browser.open(write_report(make_run([], failures=failures)))
    browser.evaluate("document.querySelector('#failures-more button').focus()")
    browser.press("Enter")
    assert browser.evaluate("document.querySelectorAll('#failures-body tr').length") == 30
    focused = "[...document.querySelectorAll('#failures-body tr')].indexOf(document.activeElement)"
    assert browser.evaluate(focused) == 20


def test_the_keyboard_goes_on_with_the_last_photos(browser, run_of_thousands):
    browser.open(write_report(run_of_thousands))
    fill(browser, "name", "photo 10")  # 111 of them
    browser.evaluate(
        "{ const button = document.querySelector('#more button');"
        " while (!button.parentElement.hidden) { button.focus(); button.click() } }"
    )
    focused = "[...document.querySelectorAll('.card')].indexOf(document.activeElement)"
    cards = browser.evaluate("document.querySelectorAll('.card').length")
    assert cards == 111 and browser.evaluate(focused) == 96


def test_nothing_is_no_bar(browser, run_of_three):
    browser.open(write_report(run_of_three, Known({"blue": 0.9, "street": 0.0})))
    bars = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.card')].map(card =>"
        " [card.querySelector('h3').textContent, card.querySelectorAll('.scores .fill').length]))"
    )
    assert bars == {"blue.png": 2, "street.png": 1, "10/grey.png": 1}


def test_the_word_unlabelled_is_not_broken_on_a_phone(browser, run_of_three):
    journal = run_of_three / ".ovseg/journal.jsonl"
    journal.write_text(journal.read_text().replace("[[0,2400", "[[-1,2400"))
    browser.screen(390, 900, phone=True)
    browser.open(write_report(run_of_three, Known({"blue": 0.9, "street": 0.5})))
    lines = browser.evaluate(
        "[...document.querySelectorAll('#classes-body bdi')]"
        ".find(name => name.textContent === 'unlabelled').getClientRects().length"
    )
    assert lines == 1


def test_five_thousand_photos_stay_usable(browser, run_of_thousands, monkeypatch):
    monkeypatch.setattr("ovseg_cli.report.page.stands_alone", lambda *_: False)
    run, target = read_run(run_of_thousands), run_of_thousands / "report.html"
    ious = {photo.entry.rel: photo.confidence**2 for photo in run.photos}
    small = [
        replace(Thumbnails("", ""), photo=f"{n:020x}-photo.jpg", overlay=f"{n:020x}-overlay.jpg")
        for n in range(len(run.photos))
    ]
    began = time.perf_counter()
    write_page(target, run, small, Known(ious))
    written = time.perf_counter() - began
    browser.open(target.as_uri())
    rendered = browser.evaluate(
        "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    )
    # The time until the next picture is on the screen after each of these.
    after = functools.partial(
        "(async () => {{ const began = performance.now(); {0};"
        " await new Promise(done => requestAnimationFrame(() => setTimeout(done)));"
        " return performance.now() - began }})()".format
    )
    typed = "dispatchEvent(new Event('input', {bubbles: true}))"
    fields = "document.getElementById('filters').elements"
    took = {
        "filter": browser.evaluate(
            after(f"{fields}['class'].value = '2'; {fields}['area-from'].value = 30; "
                  f"{fields}['class'].{typed}")
        ),
        "sort": browser.evaluate(after(f"{fields}.order.value = 'name'; {fields}.order.{typed}")),
        # Of another class than the chosen one, without which no photo would be left.
        "tick": browser.evaluate(
            after("document.querySelector('#classes-body tr:last-child input').click()")
        ),
        "scroll": browser.evaluate(after(SCROLL)),
    }  # fmt: skip
    print(f"\nwritten in {written:.2f} s, {target.stat().st_size / 1e6:.1f} MB; rendered in "
          f"{rendered:.0f} ms;", {name: f"{ms:.0f} ms" for name, ms in took.items()})  # fmt: skip
    assert written < 20 and target.stat().st_size < 10e6
    assert rendered < 15_000
    assert all(ms < 3_000 for ms in took.values())
    assert 0 < browser.evaluate("document.querySelectorAll('.card').length") < 500
    shown = browser.evaluate("document.getElementById('count').textContent")
    assert shown.endswith(" of 5,000 photos") and not shown.startswith("0 ")
    # Pictures are asked for as they come near, not all at once.
    assert len(browser.requests) < 600


def test_more_cards_come_near_the_end(browser, run_of_thousands):
    browser.open(write_report(run_of_thousands))
    cards = "document.querySelectorAll('.card').length"
    first = browser.evaluate(cards)
    browser.until(f"{SCROLL}, {cards} > {first}")
    before = browser.evaluate(cards)
    browser.evaluate("document.querySelector('#more button').click()")
    assert browser.evaluate(cards) >= before + 48
    names = browser.evaluate(NAMES)
    assert len(set(names)) == len(names)
