"""`python -m ovseg_cli` is the same program as `ovseg`."""

from ovseg_cli.cli.main import main

if __name__ == "__main__":
    main()
