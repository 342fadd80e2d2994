#!/usr/bin/env python3
"""What single settings of a head's training are worth: image AUROC of the heads alone and joined by the distance to remembered patches, as scored by default.

    cargo build --release -p pbas --example evidence
    python3 bench/levers.py DATA_FOLDER WORK_FOLDER [--sets a,b] [--seeds 0,1,2] [--settings JSON] [--only TEXT,TEXT]

For each set and seed the example `evidence` trains once with the settings that all rows share (by default three folds of 400 steps, less than the preset takes, so that many rows can
be tried) and once for each row with one setting changed. Distances are of the first training, the same for all rows. What was found is kept in WORK_FOLDER, one small file a training, and used
again; delete it to try anew. --only: the rows whose names hold one of the texts, and the first. Needs numpy. Test labels are seen here, by a person who chooses settings for all sets; never by training.
"""
import json
import statistics
import sys
from pathlib import Path

import numpy

from common import sets_of
from fusion import head_scores, image_scores, kinds_of_evidence
from recipes import auroc, evidence, folds_of, load, parser_of

SHARED = {"folds": 3, "head": {"length": {"steps": 400}}}
ROWS = {
    "as by default": {},
    "boundary loss weighted 0 instead of 0.1": {"head": {"boundary_weight": 0}},
    "boundary loss weighted 0.03": {"head": {"boundary_weight": 0.03}},
    "boundary loss weighted 0.3": {"head": {"boundary_weight": 0.3}},
    "boundary loss weighted 1": {"head": {"boundary_weight": 1}},
    "k fixed at 0.25 instead of 0.05..0.6": {"head": {"synthesis_scale": [0.25, 0.25]}},
    "k in 0.05..0.3": {"head": {"synthesis_scale": [0.05, 0.3]}},
    "k in 0.1..1.2": {"head": {"synthesis_scale": [0.1, 1.2]}},
    "nearest of 100 patches instead of 324": {"head": {"centers": {"neighbours": 100}}},
    "nearest of 1,000 patches": {"head": {"centers": {"neighbours": 1000}}},
    "one mean centre": {"head": {"centers": "mean"}},
    "centres by position (published)": {"head": {"centers": "positions"}},
    "weights averaged with decay 0.995 instead of 0.99": {"head": {"averaging": 0.995}},
    "last weights": {"head": {"averaging": None}},
    "512 hidden units instead of 256": {"head": {"hidden": 512}},
    "with stride4": {"feature_layers": ["stride4", "stride8", "stride16", "stride32"]},
    "without stride32": {"feature_layers": ["stride8", "stride16"]},
}
# As the preset weighs the distance and how far it is above the usual.
DISTANCE, USUAL = 0.5, 1.0
REMEMBERED = 2000


def merged(*settings):
    """Settings, later ones before earlier ones."""
    found = {}
    for more in settings:
        for key, value in more.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def distances(args, name, seed, shared):
    """What the distances add to the logits of each view, `[pictures, patches, heads]`; it is made where it is not there yet."""
    kept = args.evidence / f"distances.{name}.{seed}.npz"
    if not kept.exists():
        path = evidence(args.data, args.evidence / "features", name, seed, {**shared, "features": True})
        about, tensor = load(path)
        _, near, above = kinds_of_evidence(about, tensor, tensor, REMEMBERED, seed, False)
        views = [DISTANCE * n + USUAL * a for n, a in zip(near, above)]
        numpy.savez(kept, *[v.astype(numpy.float16) for v in views])
        path.unlink()
    return [v.astype(numpy.float32) for v in numpy.load(kept).values()]


def figures(args, name, seed, row, settings):
    """Image AUROC of heads alone and of all evidence."""
    kept = args.evidence / f"{row}.{name}.{seed}.json"
    if not kept.exists():
        path = evidence(args.data, args.evidence / "logits", name, seed, settings)
        about, tensor = load(path)
        sides, fold = [h for h, _ in about["sizes"]], folds_of(about["pictures"])
        test = numpy.array([p["split"] == "test" for p in about["pictures"]])
        labels = numpy.array([p.get("label", 0) == 1 for p in about["pictures"]])
        logits = [tensor(f"logits.{v}") for v in range(len(sides))]
        added = distances(args, name, seed, args.shared)
        if any(l.shape != a.shape for l, a in zip(logits, added)):
            added = [at_grid(a, l.shape[1]) for l, a in zip(logits, added)]
        ways = (logits, [l + a for l, a in zip(logits, added)])
        kept.write_text(json.dumps([auroc(labels[test], image_scores(head_scores(v, sides), fold)[test]) for v in ways]))
        path.unlink()
    return json.loads(kept.read_text())


def at_grid(values, patches):
    """Values of square grids on the grid of so many patches, each the nearest one's."""
    now, to = round(values.shape[1] ** 0.5), round(patches ** 0.5)
    at = numpy.arange(to) * now // to
    return values.reshape(len(values), now, now, -1)[:, at][:, :, at].reshape(len(values), patches, -1)


def line(row, of_sets, first):
    means = [[statistics.mean(of_seed[way] for of_seed in seeds) for way in (0, 1)] for seeds in of_sets]
    means.append([statistics.mean(m[way] for m in means) for way in (0, 1)])
    change = "" if first is None else f"{means[-1][0] - first[0]:+.4f}, {means[-1][1] - first[1]:+.4f}"
    print("| " + " | ".join([row, *(f"{a:.3f}, {b:.3f}" for a, b in means[:-1]), "{:.4f}, {:.4f}".format(*means[-1]), change]) + " |", flush=True)
    return means[-1]


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--only", help="rows whose names hold one of these texts")
    args = parser.parse_args()
    args.shared = merged(SHARED, args.settings)
    args.evidence.mkdir(parents=True, exist_ok=True)
    about = args.evidence / "settings.json"
    if about.exists() and json.loads(about.read_text()) != args.shared:
        sys.exit(f"{args.evidence}: expected what was found with the settings {json.dumps(args.shared)}, found {about.read_text()}")
    about.write_text(json.dumps(args.shared))
    wanted = args.only.split(",") if args.only else [""]
    rows = {row: change for i, (row, change) in enumerate(ROWS.items()) if i == 0 or any(text in row for text in wanted)}
    sets, seeds, first = sets_of(args.data, args.sets), [int(s) for s in args.seeds.split(",")], None
    print("| change | " + " | ".join([*sets, "mean", "against the first row"]) + " |\n|" + " --- |" * (len(sets) + 3), flush=True)
    for done, (row, change) in enumerate(rows.items()):
        settings = merged(args.shared, change)
        of_sets = [[figures(args, name, seed, row, settings) for seed in seeds] for name in sets]
        found = line(row, of_sets, first)
        first = first or found
        print(f"{done + 1} of {len(rows)} rows", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
