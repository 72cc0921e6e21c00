"""SECURITY.md names tests that exist, and the checks of dependencies read what they should."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)+)`", TEXT)))


def test_promises_have_tests():
    table = TEXT.split("| --- | --- |\n")[1].split("\n\n")[0]
    rows = table.splitlines()
    assert len(rows) > 10
    assert all(re.search(r"\| `tests/", row) for row in rows)


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_exists(name):
    file, *parts = name.split("::")
    body = ast.parse((ROOT / file).read_text("utf-8")).body
    for part in parts:
        found = [node for node in body if getattr(node, "name", None) == part]
        assert found, f"{name} is not there: SECURITY.md promises what no test holds"
        body = found[0].body


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vulnerabilities_with_and_without_a_remedy():
    report = {
        "dependencies": [
            {"name": "sound", "version": "1", "vulns": []},
            {"name": "editable", "skip_reason": "distribution marked as editable"},
            {"name": "a", "version": "1.0", "vulns": [{"id": "X-1", "fix_versions": ["1.1"]}]},
            {"name": "b", "version": "2", "vulns": [{"id": "X-2", "aliases": ["CVE-3"]}]},
        ]
    }
    assert list(load("audit").findings(report)) == [
        ("a 1.0: X-1 (fixed in 1.1)", True),
        ("b 2: X-2 CVE-3 (no release without it yet)", False),
    ]


def test_lower_bounds_of_all_requirements():
    text = (
        '[options]\ninstall_requires =\n    one >= 1.2\n    two[x] >= 3; python_version < "3.11"\n'
        "[options.extras_require]\n# a comment\nmore =\n    three>=0.1\n    one >= 1.2\n"
    )
    found = [("one", "1.2", ""), ("two", "3", '; python_version < "3.11"'), ("three", "0.1", "")]
    assert list(load("lower_bounds").bounds(text)) == found
    with pytest.raises(SystemExit, match="no lower bound: four"):
        list(load("lower_bounds").bounds(text.replace("three>=0.1", "four")))


def test_every_requirement_of_the_project_has_one():
    assert len(list(load("lower_bounds").bounds((ROOT / "setup.cfg").read_text("utf-8")))) > 20
