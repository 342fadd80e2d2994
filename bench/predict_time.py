#!/usr/bin/env python3
"""Times whole processes of `pbas predict MODEL PICTURE`, the models in turn, and prints the median, the spread and the peak memory of each.

    cargo build --release
    python3 bench/predict_time.py PICTURE MODEL [MODEL ...] [--runs 21] [--pbas target/release/pbas]

Nothing but the Python standard library is needed. The first round warms the file cache and is not counted.
"""
import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(command):
    """Seconds from start to exit, and peak memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return seconds, usage.ru_maxrss / (1024 if platform.system() != "Darwin" else 1024 * 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--pbas", type=Path, default=ROOT / "target" / "release" / "pbas")
    args = parser.parse_args()
    taken = {model: [] for model in args.models}
    for number in range(args.runs + 1):
        for model, results in taken.items():
            result = run([args.pbas, "predict", model, args.picture])
            if number:
                results.append(result)
    for model, results in taken.items():
        seconds = [s for s, _ in results]
        print(
            f"{model}: median {statistics.median(seconds) * 1e3:.0f} ms, {min(seconds) * 1e3:.0f} to {max(seconds) * 1e3:.0f} ms "
            f"in {len(seconds)} runs, peak memory {max(m for _, m in results):.0f} MB"
        )


if __name__ == "__main__":
    main()
