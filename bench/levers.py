#!/usr/bin/env python3
"""What single settings of the heads are worth: each is changed alone and heads are trained anew; image AUROC of the heads by the rule as chosen.

    cargo build --release -p pbas --example evidence
    python3 bench/levers.py DATA_FOLDER EVIDENCE_FOLDER [--sets a,b] [--seeds 0,1,2] [--settings JSON] [--levers a,b]

DATA_FOLDER holds sets in MVTec layout. --settings holds for all rows (three folds of 400 steps, unless given: a third of the time of the default). The last column is the mean over sets
and seeds of the difference from the first row, which is as the default, with its standard error. Evidence is kept, in a folder for each row. Needs numpy. Test labels are seen here, by a
person who chooses one recipe for all sets; never by training.
"""
import json
import sys
import time

import numpy

from common import sets_of
from fusion import head_scores, image_scores
from recipes import auroc, evidence, folds_of, load, parser_of

SHORT = {"folds": 3, "head": {"length": {"steps": 400}}}
LEVERS = {
    "as the default": {},
    "k even in 0.05..0.3": {"head": {"synthesis_scale": [0.05, 0.3]}},
    "k even in 0.05..1": {"head": {"synthesis_scale": [0.05, 1]}},
    "k 0.25": {"head": {"synthesis_scale": [0.25, 0.25]}},
    "no boundary loss": {"head": {"boundary_weight": 0}},
    "boundary loss weighted 0.5": {"head": {"boundary_weight": 0.5}},
    "one mean centre": {"head": {"centers": "mean"}},
    "nearest of 972 patches": {"head": {"centers": {"neighbours": 972}}},
    "512 hidden units": {"head": {"hidden": 512}},
    "last weights, no average": {"head": {"averaging": None}},
    "features as they are": {"head": {"standardize": False}},
}


def merged(a, b):
    """`b` over `a`, entry by entry."""
    both = {key: merged(a[key], b[key]) for key in a.keys() & b.keys() if isinstance(a[key], dict) and isinstance(b[key], dict)}
    return {**a, **b, **both}


def of_evidence(path):
    """Image AUROC of the heads alone."""
    about, tensor = load(path)
    sides = [height for height, _ in about["sizes"]]
    scores = head_scores([tensor(f"logits.{v}") for v in range(len(sides))], sides)
    test = numpy.array([p["split"] == "test" for p in about["pictures"]])
    labels = numpy.array([p.get("label", 0) == 1 for p in about["pictures"]])
    return auroc(labels[test], image_scores(scores, folds_of(about["pictures"]))[test])


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--levers", help="names of rows; all of them if left out")
    args = parser.parse_args()
    sets, seeds = sets_of(args.data, args.sets), [int(s) for s in args.seeds.split(",")]
    names = ["as the default", *args.levers.split(",")] if args.levers else list(LEVERS)
    for name in names:
        if name not in LEVERS:
            sys.exit(f"--levers: expected some of {', '.join(LEVERS)}, found {name}")
    print("| change | " + " | ".join(sets) + " | mean | difference |\n|" + " --- |" * (len(sets) + 3), flush=True)
    first, began = None, time.monotonic()
    for i, name in enumerate(names):
        settings = merged(args.settings or SHORT, LEVERS[name])
        folder = args.evidence / "".join(c if c.isalnum() else "_" for c in json.dumps(settings))
        table = numpy.array([[of_evidence(evidence(args.data, folder, s, seed, settings)) for seed in seeds] for s in sets])
        first = table if first is None else first
        apart = (table - first).ravel()
        error = apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else 0
        cells = [f"{v:.3f}" for v in table.mean(axis=1)] + [f"{table.mean():.4f}", "" if i == 0 else f"{apart.mean():+.4f} ± {error:.4f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        print(f"{i + 1} of {len(names)} rows in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
