#!/usr/bin/env python3
"""Compares ways to make an image score of what the heads say, without training again: image AUROC by rule, mean over seeds.

    cargo build --release -p pbas --example evidence
    python3 bench/recipes.py DATA_FOLDER EVIDENCE_FOLDER [--sets a,b] [--seeds 0,1,2] [--settings JSON]

DATA_FOLDER holds sets in MVTec layout. For each set and seed the example `evidence` trains once and writes the logits of all heads to EVIDENCE_FOLDER
(kept, and used again: a folder for each JSON of settings). Needs numpy. Test labels are seen here, by a person who chooses a rule for all sets; never by training.
"""
import argparse
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy

from common import ROOT, sets_of

EVIDENCE = ROOT / "target/release/examples/evidence"


def load(path):
    """Metadata, and a function from a tensor's name to the tensor."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    about = json.loads(header["__metadata__"]["evidence"])

    def tensor(name):
        a, b = header[name]["data_offsets"]
        return numpy.frombuffer(data[start + a:start + b], numpy.float16).reshape(header[name]["shape"]).astype(numpy.float32)

    return about, tensor


def evidence(data, folder, name, seed, settings):
    """The file of evidence of a set and seed; it is made where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{seed}.safetensors"
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run([EVIDENCE, data / name, part, json.dumps({**settings, "seed": seed})], check=True)
        part.rename(path)
    return path


def parser_of(description):
    """What the scripts that look at evidence are told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("evidence", type=Path)
    parser.add_argument("--sets")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--settings", type=json.loads, default={}, help="settings other than the default's, as JSON; a folder of evidence for each")
    return parser


def auroc(positive, score):
    values, inverse, counts = numpy.unique(score, return_inverse=True, return_counts=True)
    rank = (numpy.cumsum(counts) - (counts - 1) / 2)[inverse]
    p, n = positive.sum(), (~positive).sum()
    return (rank[positive].sum() - p * (p + 1) / 2) / (p * n)


def highest(logits, share):
    """Mean of the highest share of the patches: [pictures, heads]."""
    count = max(1, int(numpy.ceil(logits.shape[1] * share - 1e-9)))
    return -numpy.partition(-logits, count - 1, axis=1)[:, :count].mean(axis=1, dtype=numpy.float64)


def rarity(good, score):
    """As `calibrate/good_scores.rs`, with an exponential tail for any number of scores."""
    good = numpy.sort(good)
    n = len(good)
    rank = -numpy.log10(numpy.minimum((n - numpy.arange(1, n + 1) + 2) / (n + 1), 1))
    tail = min(max(n // 5, 3), n - 1)
    excess, missing = (good[n - tail:] - good[n - 1 - tail]).sum(), max(3 - tail, 0)
    scale = max(excess / max(tail, 1), (excess + missing) / (tail + missing), 0.05)
    beyond = (score - good[-1]) / scale / numpy.log(10)
    above = rank[-1] + beyond + numpy.minimum(beyond, numpy.log10(2))
    below = (score - good[0]) / scale
    return numpy.where(score > good[-1], above, numpy.where(score < good[0], below, numpy.interp(score, good, rank)))


def folds_of(pictures):
    """The head that has not seen each picture; -1 of test pictures, which none has."""
    return numpy.array([-1 if p.get("unseen_by") is None else p["unseen_by"] for p in pictures])


def rarities(scores, fold):
    """[pictures, heads]: how rare each head's score is among the good pictures that it has not seen."""
    return numpy.stack([rarity(scores[fold == h, h], scores[:, h]) for h in range(scores.shape[1])], axis=1)


def rules(about, views):
    """Image scores of all pictures by the name of the rule."""
    unseen = folds_of(about["pictures"])
    good = numpy.array([p["split"] == "good" for p in about["pictures"]])
    heads = range(views[0].shape[2])
    sides = [h for h, _ in about["sizes"]]

    def deviation(logits, head, seen):
        chosen = good & (unseen != head) if seen else unseen == head
        return logits[chosen][:, :, head].std(dtype=numpy.float64)

    def head_scores(share, weight, scale):
        total = 0
        for logits, side in zip(views, sides):
            top = highest(logits, share)
            if scale is not None:
                top = top / numpy.array([deviation(logits, h, scale == "seen") for h in heads])
            total = total + (side / max(sides)) ** weight * top
        return total

    found = {}
    for share in (0.01, 0.003, 0.001):
        for scale in (None, "seen", "unseen"):
            for weight in (0, 1):
                name = f"median of rarities, top {100 * share:g} %, views {'by side' if weight else 'alike'}, "
                name += f"logits in deviations of {scale} patches" if scale else "logits as they are"
                found[name] = numpy.median(rarities(head_scores(share, weight, scale), unseen), axis=1)
    chosen = rarities(head_scores(0.003, 1, None), unseen)
    found["mean of rarities, the rest as chosen"] = chosen.mean(axis=1)
    found["least of rarities, the rest as chosen"] = chosen.min(axis=1)
    # The first version: mean over the heads of logits on scale, views in deviations of the pictures' scores.
    total = 0
    for logits in views:
        on_scale = logits.copy()
        for h in heads:
            patches = logits[unseen == h][:, :, h]
            on_scale[:, :, h] = (logits[:, :, h] - patches.mean(dtype=numpy.float64)) / deviation(logits, h, False)
        single = highest(on_scale, 0.01)
        own = single[unseen >= 0, unseen[unseen >= 0]]
        total = total + (highest(on_scale.mean(axis=2, keepdims=True), 0.01)[:, 0] - own.mean()) / max(own.std(ddof=1), 0.05)
    found["first version: mean over heads of logits, top 1 %"] = total
    labels = numpy.array([p.get("label", 0) == 1 for p in about["pictures"]])
    return {name: auroc(labels[~good], score[~good]) for name, score in found.items()}


def main():
    args = parser_of(__doc__).parse_args()
    sets = sets_of(args.data, args.sets)
    table = {}
    for name in sets:
        for seed in args.seeds.split(","):
            path = evidence(args.data, args.evidence, name, int(seed), args.settings)
            about, tensor = load(path)
            logits = [tensor(f"logits.{v}") for v in range(len(about["sizes"]))]
            for rule, value in rules(about, logits).items():
                table.setdefault(rule, {}).setdefault(name, []).append(value)
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    means = {rule: [numpy.mean(of_set[name]) for name in sets] for rule, of_set in table.items()}
    print("| rule | " + " | ".join(sets) + " | mean |\n|" + " --- |" * (len(sets) + 2))
    for rule, of_sets in sorted(means.items(), key=lambda r: -numpy.mean(r[1])):
        print(f"| {rule} | " + " | ".join(f"{v:.3f}" for v in of_sets) + f" | {numpy.mean(of_sets):.4f} |")


if __name__ == "__main__":
    main()
