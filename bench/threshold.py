#!/usr/bin/env python3
"""Does the threshold keep what it promises? Real good pictures are split at random many times; each time a model is trained on one part, and the other part is judged.

    cargo build --release
    python3 bench/threshold.py DATA_FOLDER --sets elpv_mono,mvtec_screw_512 [--splits 40] [--train 0.6] [--json OUT.json] [-- TRAIN FLAGS]

DATA_FOLDER holds sets in MVTec layout; the good pictures of a set are those of `train/good` and `test/good` together. The promise holds whatever the heads are
like, so the training may be short and small: flags after `--`, by default `--size 160,96 --steps 60`. For each wanted rate the table says what is proven (over the draw of good pictures and of the
new part), what share of the unseen good pictures was rejected in the mean over the splits, with its standard error, and in how many splits the share was
more than the 95 % confident bound and chance in so few pictures (binomial, 5 %) allow: at most about one in ten is to be expected of a bound that is just met.

`recalibrated`: the same models after `pbas calibrate` with half of the unseen pictures; the other half is judged.
"""
import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, arguments, commit, sets_of

RATES = [0.1, 0.05, 0.02, 0.01]
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SHORT = ["--size", "160,96", "--steps", "60"]


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def linked(folder, pictures):
    """A folder of links to pictures, under names of their own."""
    folder.mkdir()
    for i, p in enumerate(pictures):
        (folder / f"{i:04}{p.suffix}").symlink_to(p)
    return folder


def tail(k, n, p):
    """P(at least k of n) at rate p."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def seen(pbas, work, model, folder):
    """For each wanted rate: what is promised, how many of the pictures are rejected, of how many."""
    p_values = [json.loads(line)["p_value"] for line in call(pbas, "predict", model, folder, "-q").splitlines()]
    rows = []
    for rate in RATES:
        at = work / "rate.pbas"
        call(pbas, "calibrate", model, "--false-reject-rate", rate, "-o", at, "-q")
        promise = json.loads(call(pbas, "info", at, "--json"))["promise"]
        rows.append((promise, sum(p < rate * (1 - 1e-9) for p in p_values), len(p_values)))
    return rows


def main():
    argv, flags = arguments()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", help="folders of DATA_FOLDER; all of them if left out")
    parser.add_argument("--splits", type=int, default=40)
    parser.add_argument("--train", type=float, default=0.6, help="share of the good pictures that is trained on")
    parser.add_argument("--json", type=Path, help="every count")
    parser.add_argument("--pbas", type=Path, default=ROOT / "target/release/pbas")
    args = parser.parse_args(argv)
    flags, start, every = flags or SHORT, time.monotonic(), []
    print(f"commit {commit()}, {args.splits} splits, train {' '.join(flags)}\n")
    print("| set | threshold | trained on | judged | wanted | proven | rejected, mean | splits above their bound |\n|" + " --- |" * 8, flush=True)
    for name in sets_of(args.data, args.sets):
        good = [p.resolve() for part in ("train", "test") for p in sorted((args.data / name / part / "good").rglob("*")) if p.suffix.lower() in PICTURES]
        if len(good) < 20:
            sys.exit(f"{name}: expected 20 good pictures or more, found {len(good)}")
        found = {"of training": [], "recalibrated": []}
        for split in range(args.splits):
            mixed, cut = random.Random(split).sample(good, len(good)), round(args.train * len(good))
            half = (cut + len(good)) // 2
            with tempfile.TemporaryDirectory() as work:
                work = Path(work)
                model, again = work / "m.pbas", work / "again.pbas"
                call(args.pbas, "train", linked(work / "train", mixed[:cut]), "-o", model, "--seed", split, "-q", *flags)
                found["of training"].append(seen(args.pbas, work, model, linked(work / "rest", mixed[cut:])))
                call(args.pbas, "calibrate", model, linked(work / "new", mixed[cut:half]), "-o", again, "-q")
                found["recalibrated"].append(seen(args.pbas, work, again, linked(work / "last", mixed[half:])))
            print(f"{name}: split {split + 1} of {args.splits}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        for kind, splits in found.items():
            for i, rate in enumerate(RATES):
                shares = [rejected / n for _, rejected, n in (s[i] for s in splits)]
                above = sum(tail(rejected, n, promise["confident_rate"]) < 0.05 for promise, rejected, n in (s[i] for s in splits))
                promise, _, n = splits[0][i]
                error = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else 0
                print(f"| {name} | {kind} | {cut} | {n} | {rate:.0%} | {promise['proven_rate']:.1%} | {statistics.mean(shares):.2%} ± {error:.2%} | {above} of {len(splits)} |", flush=True)
                every += [{"set": name, "threshold": kind, "split": j, "rate": rate, "rejected": s[i][1], "judged": s[i][2], **s[i][0]} for j, s in enumerate(splits)]
    if args.json:
        args.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
