#!/usr/bin/env python3
"""Trains and evaluates `pbas` on data sets in MVTec layout and prints a Markdown table: accuracy, time, memory.

    cargo build --release
    python3 bench/accuracy.py DATA_FOLDER [--sets a,b] [--seeds 0,1,2] [--json OUT.json] [--update docs/results.md] [-- TRAIN FLAGS]

DATA_FOLDER holds one folder a set (`SET/train/good`, `SET/test/...`). Nothing but the Python standard library is needed.
Every run is honest: training sees `train/good` alone; no setting depends on the set; the last state is kept.
Times are of whole processes on this machine, alone on it; peak memory is the operating system's figure for the process.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, arguments, commit, sets_of

FIGURES = ["image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "aupimo", "false_rejects", "missed"]


def run(command):
    """Runs to the end; returns seconds and peak memory in MB."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0,):
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors}")
    peak = usage.ru_maxrss / (1024 if platform.system() != "Darwin" else 1024 * 1024)
    return time.monotonic() - start, peak


def processor():
    try:
        text = Path("/proc/cpuinfo").read_text()
        name = re.search(r"model name\s*: (.*)", text).group(1)
        flags = re.search(r"flags\s*: (.*)", text).group(1).split()
        isa = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE"
        return f"{name}, {os.cpu_count()} cores, {isa}"
    except (OSError, AttributeError):
        return f"{platform.processor()}, {os.cpu_count()} cores"


def show(values, digits=3):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    mean = statistics.mean(values)
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def main():
    (argv, extra), of_commit = arguments(), commit()  # At the start: the tree may change meanwhile.
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", help="folders of DATA_FOLDER; all of them if left out")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", type=Path, help="every figure of every run")
    parser.add_argument("--update", type=Path, help="put the table between the marks of this Markdown file")
    parser.add_argument("--compare", action="store_true", help="also nearest neighbours on the same features (`eval --compare nearest`)")
    parser.add_argument("--pbas", type=Path, default=ROOT / "target/release/pbas")
    args = parser.parse_args(argv)
    sets = sets_of(args.data, args.sets)
    seeds = [int(s) for s in args.seeds.split(",")]
    rows, runs = [], []
    for name in sets:
        results = []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as work:
                model, report = Path(work) / "m.pbas", Path(work) / "r.json"
                seconds, memory = run([args.pbas, "train", args.data / name, "-o", model, "--seed", str(seed), *extra])
                compare = ["--compare", "nearest"] if args.compare else []
                eval_seconds, _ = run([args.pbas, "eval", model, args.data / name, "--json", report, *compare])
                found = json.loads(report.read_text())
            result = {"set": name, "seed": seed, "train_seconds": seconds, "train_peak_mb": memory,
                      "eval_seconds": eval_seconds, **{k: found[k] for k in [*FIGURES, "images", "good", "defective"]}}
            for opinion in found.get("compared", []):
                result |= {f"nearest_{k}": v for k, v in opinion.items() if k != "method"}
            print(json.dumps(result), file=sys.stderr, flush=True)
            results.append(result)
        runs += results
        column = {k: [r[k] for r in results] for k in results[0]}
        rows.append([name, show(column["image_auroc"]), show(column["pixel_auroc"]), show(column["aupro"]), show(column["aupimo"]),
                     show(column["image_ap"]),
                     f"{sum(column['false_rejects'])} of {sum(column['good'])}",
                     f"{sum(column['missed'])} of {sum(column['defective'])}",
                     f"{statistics.median(column['train_seconds']):.0f} s",
                     f"{max(column['train_peak_mb']):.0f} MB"])
        if args.compare:
            rows[-1][6:6] = [show(column[f"nearest_{k}"]) for k in ("image_auroc", "pixel_auroc")]
    head = ["set", "image AUROC", "pixel AUROC", "AUPRO 0.3", "AUPIMO", "image AP", "false rejects", "missed", "training", "peak memory"]
    if args.compare:
        head[6:6] = ["nearest neighbour: image AUROC", "nearest neighbour: pixel AUROC"]
    lines = ["| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]]
    about = (f"Commit {of_commit}; seeds {args.seeds}; settings: `pbas train {' '.join(extra) or '(defaults)'}`; "
             f"{processor()}. Mean ± standard deviation over seeds; rejects and misses are sums over seeds at the "
             f"model's threshold; training time is the median.")
    text = about + "\n\n" + "\n".join(lines) + "\n"
    print(text)
    if args.json:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
    if args.update:
        old = args.update.read_text()
        begin, end = "<!-- accuracy.py begin -->\n", "<!-- accuracy.py end -->"
        if begin not in old or end not in old:
            sys.exit(f"{args.update} has no marks `{begin.strip()}` and `{end}`")
        before, after = old.split(begin)[0], old.split(end)[1]
        args.update.write_text(before + begin + text + end + after)


if __name__ == "__main__":
    main()
