#!/usr/bin/env python3
"""Every crate that is built in has a licence on the list below.

Reads `cargo metadata --format-version 1` from standard input. An SPDX expression is allowed where a choice of its
licences is: one side of an OR, both sides of an AND. `/` is cargo's old way to write OR.
"""

import json
import re
import sys

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    # Of data: the root certificates that rustls-platform-verifier has on systems that bring none.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}


def allowed(expression):
    """Whether an SPDX expression can be met with allowed licences. Raises ValueError where it is none."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either():
        result = both()
        while peek() == "OR":
            take()
            right = both()
            result = result or right
        return result

    def both():
        result = one()
        while peek() == "AND":
            take()
            right = one()
            result = result and right
        return result

    def one():
        if peek() in (None, ")", "AND", "OR", "WITH"):
            raise ValueError(f"a licence is missing in `{expression}`")
        name = take()
        if name == "(":
            result = either()
            if peek() != ")":
                raise ValueError(f"a bracket is not closed in `{expression}`")
            take()
            return result
        if peek() == "WITH":
            take()
            if peek() in (None, "(", ")", "AND", "OR", "WITH"):
                raise ValueError(f"an exception is missing in `{expression}`")
            name = f"{name} WITH {take()}"
        return name in ALLOWED

    result = either()
    if position != len(tokens):
        raise ValueError(f"`{tokens[position]}` is left over in `{expression}`")
    return result


def check_the_check():
    for expression, expected in [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("GPL-3.0 OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0", False),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", True),
        ("MIT OR GPL-3.0 AND GPL-2.0", True),
        ("(MIT OR GPL-3.0) AND GPL-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH Other-exception", False),
        ("GPL-2.0 WITH LLVM-exception", False),
    ]:
        assert allowed(expression) == expected, expression
    for broken in ["", "MIT OR", "(MIT", "MIT MIT", "AND MIT", "MIT WITH", ")"]:
        try:
            allowed(broken)
        except ValueError:
            continue
        raise AssertionError(f"`{broken}` is no expression")


def main():
    check_the_check()
    packages = json.load(sys.stdin)["packages"]
    if len(packages) < 10:
        sys.exit(f"licences: expected the metadata of the workspace with its dependencies, found {len(packages)} crates")
    bad = []
    for package in sorted(packages, key=lambda p: (p["name"], p["version"])):
        crate = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence:
            bad.append(f"{crate}: states no licence (file: {package['license_file'] or 'none'})")
            continue
        try:
            if not allowed(licence):
                bad.append(f"{crate}: `{licence}` is not on the list of allowed licences")
        except ValueError as error:
            bad.append(f"{crate}: {error}")
    for line in bad:
        print(line, file=sys.stderr)
    if bad:
        sys.exit(1)
    print(f"{len(packages)} crates, all under allowed licences")


main()
