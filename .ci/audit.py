"""Known vulnerabilities of the packages that are installed here, as pip-audit tells of them.

    python .ci/audit.py

Each is printed. Exit code 1 where a release without it is to be had: then the lower bound in
setup.cfg goes up. Where there is none, or the list of vulnerabilities cannot be reached, that is
said and all is well: neither can be mended here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

SECONDS = 300  # for the whole list


def findings(report: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each vulnerability of pip-audit's JSON in words, and whether a release is without it."""
    for package in report.get("dependencies", ()):
        for found in package.get("vulns", ()):
            fixed = ", ".join(found.get("fix_versions", ()))
            names = " ".join([found["id"], *found.get("aliases", ())])
            remedy = f"fixed in {fixed}" if fixed else "no release without it yet"
            yield f"{package['name']} {package['version']}: {names} ({remedy})", bool(fixed)


def main() -> int:
    options = ["--format", "json", "--skip-editable", "--progress-spinner", "off"]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        report = json.loads(ran.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"audit: not done, no list of vulnerabilities to be had ({type(error).__name__})")
        return 0
    looked_at = [package for package in report["dependencies"] if "vulns" in package]
    if not looked_at:  # a mirror without such a list answers, too
        print("audit: not done, the package index here has no list of vulnerabilities")
        return 0
    told = list(findings(report))
    for text, _ in told:
        print(f"audit: {text}")
    packages = f"{len(looked_at)} of {len(report['dependencies'])} packages looked at"
    print(f"audit: {packages}, {len(told)} known vulnerabilities")
    return int(any(fixable for _, fixable in told))


if __name__ == "__main__":
    sys.exit(main())
