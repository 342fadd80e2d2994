"""A Python environment for the checks that need packages, in the versions of bench/requirements.txt."""

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(folder, packages):
    """A Python that has the packages; exit status 3 where they cannot be had."""
    lines = (ROOT / "bench" / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if re.split("[=<>]", line)[0] in packages]
    assert len(wanted) == len(packages), f"bench/requirements.txt: expected {packages}, found {wanted}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [python, "-m", "pip", "install", "--no-input", "--quiet", "--disable-pip-version-check"]
    command += ["--timeout", "20", "--retries", "2", *wanted]
    try:
        failed = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=600).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        failed = True
    if failed:
        print(f"cannot install {', '.join(wanted)}", file=sys.stderr)
        sys.exit(3)
    return python
