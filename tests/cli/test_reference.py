from ovseg_cli.cli import reference


def test_commands_md_says_what_help_says():
    stored = reference.TARGET.read_text(encoding="utf-8")
    assert stored == reference.reference(), "run: python -m ovseg_cli.cli.reference"
