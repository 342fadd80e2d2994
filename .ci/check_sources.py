#!/usr/bin/env python3
"""Rules for what is committed, that no compiler checks.

- `unsafe` occurs in crates/pbas-nn alone, and every use there says in a comment above it why it is sound.
- No file is above 1 MB, but for the ones listed.
- No text file names a folder of somebody's machine.
"""

import re
import subprocess
import sys
from pathlib import Path

MAX_BYTES = 1_000_000
LARGE = {
    "crates/pbas/weights/efficientnet_lite0.safetensors",
    "crates/pbas/tests/golden/resnet_bottleneck_w8.safetensors",
}
UNSAFE_CRATE = "crates/pbas-nn/"
# Lines above a use of `unsafe` in which its comment begins.
COMMENT_LINES = 8
MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:(?:work|root)/|(?:home|Users)/[A-Za-z0-9_])")


def code(line):
    """A line of Rust without its comment and the contents of its strings."""
    line = re.sub(r'"(?:\\.|[^"\\])*"', '""', line)
    return line.split("//")[0]


def unsafe_uses(path, text):
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if not re.search(r"\bunsafe\b", code(line)):
            continue
        where = f"{path}:{i + 1}"
        if not path.startswith(UNSAFE_CRATE):
            yield f"{where}: `unsafe` is for {UNSAFE_CRATE} alone"
            continue
        above = lines[max(0, i - COMMENT_LINES) : i]
        if re.search(r"\bunsafe\s+(?:extern\s+(?:\"[^\"]*\"\s+)?)?fn\b", line):
            # The doc comment of a function can be long: all of it, and the attributes between.
            start = i
            while start and lines[start - 1].lstrip().startswith(("//", "#[")):
                start -= 1
            if not any("# Safety" in text or "SAFETY:" in text for text in lines[start:i]):
                yield f"{where}: an `unsafe fn` without a `# Safety` section"
        elif not any("SAFETY:" in text for text in above):
            yield f"{where}: `unsafe` without a `SAFETY:` comment in the {COMMENT_LINES} lines above"


def main():
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True).stdout
    names = [name for name in listed.decode().split("\0") if name]
    bad, rust, uses = [], 0, 0
    for name in names:
        path = Path(name)
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        if size > MAX_BYTES and name not in LARGE:
            bad.append(f"{name}: {size} bytes; files above {MAX_BYTES} are listed in .ci/check_sources.py")
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        try:
            text = data.decode()
        except UnicodeDecodeError:
            continue
        for i, line in enumerate(text.splitlines()):
            if found := MACHINE_PATH.search(line):
                bad.append(f"{name}:{i + 1}: names a folder of one machine: `{line[found.start():][:40]}`")
        if path.suffix == ".rs":
            rust += 1
            uses += len(re.findall(r"\bunsafe\b", "\n".join(map(code, text.splitlines()))))
            bad.extend(unsafe_uses(name, text))
    bad.extend(f"{name}: listed in .ci/check_sources.py but not committed" for name in sorted(LARGE - set(names)))
    if rust < 10:
        bad.append(f"expected the Rust files of the workspace, found {rust}")
    for line in bad:
        print(line, file=sys.stderr)
    if bad:
        sys.exit(1)
    print(f"{len(names)} files, {rust} of them Rust, {uses} uses of `unsafe`, each with its reason")


main()
