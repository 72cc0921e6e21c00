"""The gallery's page is the one that its command makes, and shows what it names."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def gallery():
    spec = importlib.util.spec_from_file_location("gallery", EXAMPLES / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_entries():
    module = gallery()
    entries = module.entries()
    assert len({entry["name"] for entry in entries}) == len(entries) >= 8
    assert module.PAGE.read_text("utf-8") == module.page(entries)
    for entry in entries:
        assert (EXAMPLES / "photos" / entry["photo"]).is_file()
        assert len(entry["verdict"]) > 20, f"nobody has said how {entry['name']} went"
    assert {path.stem for path in module.PICTURES.iterdir()} == {e["name"] for e in entries}
