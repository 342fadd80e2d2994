#!/usr/bin/env python3
"""What is lost where pictures are larger or longer than `pbas` looks at them.

    cargo build --release
    python3 bench/sizes.py half DATA_FOLDER [--sets a,b] [--seeds 0]
    python3 bench/sizes.py long DATA_FOLDER [--sets a,b] [--seeds 0]      (needs Pillow)

DATA_FOLDER holds sets in MVTec layout. Prints a Markdown table; `-- TRAIN FLAGS` are handed to `pbas train`.

half: views of half the sides that `--size auto` chooses, as if the pictures had twice the side that it goes up to, against those that it chooses.
long: every two pictures are put side by side, a defective one beside a good one; looked at in squares, against their own proportions (`--size auto`).
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, arguments, sets_of
from robustness import evaluate, mean, missed, pictures


def views(pbas, data):
    """Shorter sides of the views that `--size auto` chooses for a set, and half of them, to multiples of 32."""
    run = subprocess.run([pbas, "doctor", data, "--json"], capture_output=True, text=True)
    if not run.stdout:
        sys.exit(run.stderr)
    whole = [min(size.values()) for size in json.loads(run.stdout)["cost"]["sizes"]]
    return whole, [max(32, int(side / 64 + 0.5) * 32) for side in whole]


def size(sides):
    return ["--size", ",".join(map(str, sides))]


def side_by_side(source, target, rng):
    """Writes a set of pairs."""
    from PIL import Image

    def write(two, out):
        rng.shuffle(two)
        halves = [Image.open(p).convert("RGB") for p in two]
        right = halves[1].resize(halves[0].size) if halves[1].size != halves[0].size else halves[1]
        pair = Image.new("RGB", (2 * right.width, right.height))
        pair.paste(halves[0], (0, 0))
        pair.paste(right, (right.width, 0))
        out.parent.mkdir(parents=True, exist_ok=True)
        pair.save(out, compress_level=1)

    train, good = pictures(source / "train/good"), pictures(source / "test/good")
    rng.shuffle(train)
    for i in range(len(train) // 2):
        write(train[2 * i:2 * i + 2], target / f"train/good/{i:03}.png")
    for i, picture in enumerate(good):
        write([picture, rng.choice([g for g in good if g != picture])], target / f"test/good/{i:03}.png")
    for kind in sorted(d for d in (source / "test").iterdir() if d.is_dir() and d.name != "good"):
        for i, picture in enumerate(pictures(kind)):
            write([picture, rng.choice(good)], target / f"test/{kind.name}/{i:03}.png")


def rows(args, name):
    whole, half = views(args.pbas, args.data / name)
    compared = {"half": [("half", size(half)), ("whole", size(whole))], "long": [("squares", size(whole)), ("proportions kept", [])]}
    for what, flags in compared[args.kind]:
        results = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as work:
                data = args.data / name
                if args.kind == "long":
                    data = Path(work) / name
                    side_by_side(args.data / name, data, random.Random(seed))
                results.append(evaluate(args.pbas, data, seed, flags + args.flags)[0])
        sides = ", ".join(str(s) for s in (half if what == "half" else whole))
        yield [name, f"{what} ({sides})", mean([r["image_auroc"] for r in results]),
               f"{sum(r['false_rejects'] for r in results)} of {sum(r['good'] for r in results)}", missed(results)]


def main():
    argv, flags = arguments()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["half", "long"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--pbas", type=Path, default=ROOT / "target/release/pbas")
    args = parser.parse_args(argv)
    args.data, args.flags, args.seeds = args.data.resolve(), flags, [int(s) for s in args.seeds.split(",")]
    head = ["set", "views", "image AUROC", "false rejects", "missed"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for name in sets_of(args.data, args.sets):
        for row in rows(args, name):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
