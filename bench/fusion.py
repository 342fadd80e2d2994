#!/usr/bin/env python3
"""Compares ways to join the distance to remembered good patches with what the heads say: image and pixel AUROC by rule, and the share of a defect that is
marked where hardly any pixel of good pictures is, over seeds.

    cargo build --release -p pbas --example evidence
    python3 bench/fusion.py DATA_FOLDER EVIDENCE_FOLDER [--sets a,b] [--seeds 0,1,2] [--settings JSON] [--rows 2000] [--random] [--pictures N] [--dirty PER_CENT] [--map-views alike]

For each set and seed the example `evidence` trains once and writes the heads' logits, with the first seed also the features of every picture, to EVIDENCE_FOLDER
(kept, and used again); distances are computed here as `crates/pbas/src/neighbours` and `train/remember.rs` do: by fold, on the grid of the second feature layer, to a coreset
of --rows patches over all folds (--random: to random ones). With --pictures only so many of a set's good pictures are used, the same for all seeds; with --dirty
so many per cent of the good pictures are defective ones, as in `robustness.py dirty` with seed 0. In the map views count by their area, or alike. Needs numpy and Pillow. Test labels are seen here, by a person who chooses a rule for all sets;
never by training.
"""
import sys
import tempfile
from pathlib import Path

import numpy
from PIL import Image

from common import sets_of
from recipes import auroc, evidence, folds_of, highest, load, parser_of, rarities
from robustness import Set

CHANNELS = [40, 112, 192]  # Of the layers stride8, stride16 and stride32.
POOL, PROJECTED = 50_000, 64
ANYWHERE = 3  # Patches that lie as they do to any row, beside those that tell what is usual at one.
SIDE = 128  # Pixel figures are taken on maps of this side.
MAP_VIEWS = {"area": 2, "alike": 0}  # The power of its side by which a view counts in the map.


def linear(source, target):
    """[target, source]: means over cells where it gets coarser, else bilinear with half-pixel centres."""
    matrix = numpy.zeros((target, source), numpy.float32)
    for i in range(target):
        if source > target:
            low, high = i * source // target, -(-(i + 1) * source // target)
            matrix[i, low:high] = 1 / (high - low)
        else:
            at = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
            low = int(at)
            matrix[i, low] += 1 - (at - low)
            matrix[i, min(low + 1, source - 1)] += at - low
    return matrix


def resample(maps, to):
    """[n, h, w, c] -> [n, to, to, c]."""
    maps = numpy.einsum("yh,nhwc->nywc", linear(maps.shape[1], to), maps, optimize=True)
    return numpy.einsum("xw,nywc->nyxc", linear(maps.shape[2], to), maps, optimize=True)


def features(pooled, side):
    """Pooled values [n, ...] of a view of `side` pixels -> [n, positions of the coarse grid, dim]."""
    grids, at, parts = [-(-side // s) for s in (8, 16, 32)], 0, []
    for g, c in zip(grids, CHANNELS):
        parts.append(resample(pooled[:, at:at + g * g * c].reshape(-1, g, g, c).astype(numpy.float32), grids[1]))
        at += g * g * c
    return numpy.concatenate(parts, axis=3).reshape(len(pooled), -1, sum(CHANNELS))


def coreset(rows, count, rng):
    low = rows @ rng.standard_normal((rows.shape[1], PROJECTED), numpy.float32)
    near, chosen, new = numpy.full(len(rows), numpy.inf, numpy.float32), [], int(rng.integers(len(rows)))
    for _ in range(min(count, len(rows))):
        chosen.append(new)
        near = numpy.minimum(near, ((low - low[new]) ** 2).sum(axis=1))
        new = int(near.argmax())
    return chosen


def nearest(x, bank):
    """Of each row of x the distance to the nearest row of a bank, and which it is."""
    mean, deviation, rows = bank
    x = (x - mean) / deviation
    half, least, at = 0.5 * (rows ** 2).sum(axis=1), [], []
    for block in numpy.array_split(x, len(x) // 8192 + 1):
        found = half - block @ rows.T
        at.append(found.argmin(axis=1))
        least.append(found[numpy.arange(len(block)), at[-1]])
    return numpy.sqrt(numpy.maximum((x ** 2).sum(axis=1) + 2 * numpy.concatenate(least), 0)), numpy.concatenate(at)


def moments(near, rows):
    """[3, rows]: number, sum and sum of squares of the distances to each row."""
    d, at = near
    return numpy.stack([numpy.bincount(at, weights, rows) for weights in (numpy.ones_like(d), d, d * d)])


def mean_and_deviation(moments):
    n, s, q = moments
    return s / n, numpy.sqrt(numpy.maximum(q / n - (s / n) ** 2, 1e-6))


def distances(pooled, side, fold, rows, seed, pick_random):
    """[pictures, positions, heads], twice: the least distance to the banks that a head may look into, in its own unit; the least above what is usual at the
    nearest row, in deviations of that."""
    rng, folds = numpy.random.default_rng(seed), int(fold.max()) + 1
    banks, pools = [], []
    for f in range(folds):
        pictures = numpy.where(fold == f)[0]
        each = -(-POOL // folds // len(pictures))
        pool = []
        for p in pictures:
            x = features(pooled[p:p + 1], side)[0]
            pool.append(x[rng.permutation(len(x))[:each]])
        pool = numpy.concatenate(pool)
        mean, deviation = pool.mean(axis=0), pool.std(axis=0) + 1e-6
        scaled = (pool - mean) / deviation
        kept = rng.permutation(len(pool))[:rows // folds] if pick_random else coreset(scaled, rows // folds, rng)
        banks.append((mean, deviation, scaled[kept]))
        pools.append(pool)
    between = {(f, t): moments(nearest(pools[f], banks[t]), len(banks[t][2])) for f in range(folds) for t in range(folds) if f != t}
    least, rows_at = [], []
    for batch in numpy.array_split(numpy.arange(len(pooled)), len(pooled) // 16 + 1):
        x = features(pooled[batch], side)
        found = [nearest(x.reshape(-1, x.shape[2]), b) for b in banks]
        least.append(numpy.stack([d.reshape(len(batch), -1) for d, _ in found], axis=2))
        rows_at.append(numpy.stack([i.reshape(len(batch), -1) for _, i in found], axis=2))
    least, rows_at = numpy.concatenate(least), numpy.concatenate(rows_at)
    plain, usual = [], []
    for h in range(folds):
        seen = [f for f in range(folds) if f != h]
        all_rows = sum(between[f, t].sum(axis=1) for f in seen for t in seen if f != t)
        above = []
        for t in seen:
            of_rows = sum(between[f, t] for f in seen if f != t) + ANYWHERE * (all_rows / all_rows[0])[:, None]
            mean, deviation = mean_and_deviation(of_rows)
            above.append((least[:, :, t] - mean[rows_at[:, :, t]]) / deviation[rows_at[:, :, t]])
        plain.append(least[:, :, seen].min(axis=2) / mean_and_deviation(all_rows)[1])
        usual.append(numpy.min(above, axis=0))
    return numpy.stack(plain, axis=2), numpy.stack(usual, axis=2)


def blur(maps, sigma):
    reach = int(3 * sigma + 0.5)
    kernel = numpy.exp(-numpy.arange(-reach, reach + 1) ** 2 / (2 * sigma ** 2))
    for axis in (1, 2):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        wide = numpy.pad(maps, pad, mode="reflect")
        maps = sum(k * wide.take(range(i, i + SIDE), axis=axis) for i, k in enumerate(kernel / kernel.sum()))
    return maps


def few_marked(maps, truth, defective):
    """What share of a defect's pixels lies above thresholds that one in 10^5 to one in 10^4 pixels of good pictures exceed, mean over defects (as AUPIMO)."""
    good = numpy.sort(maps[~defective], axis=None)[::-1]
    thresholds = good[(numpy.logspace(-5, -4, 20) * len(good)).astype(int)]
    inside = [m[t] for m, t in zip(maps, truth) if t.any()]
    return numpy.mean([(values > t).mean() for t in thresholds for values in inside])


def masks(folder, pictures):
    """[test pictures, SIDE, SIDE], or None where the set has none."""
    found = []
    for p in pictures:
        if p["label"] == 0:
            found.append(numpy.zeros((SIDE, SIDE), bool))
            continue
        stem = folder / "ground_truth" / Path(p["name"].removeprefix("test/")).with_suffix("")
        files = [f for f in (Path(f"{stem}_mask.png"), Path(f"{stem}.png")) if f.exists()]
        if not files:
            return None
        found.append(numpy.array(Image.open(files[0]).convert("L").resize((SIDE, SIDE), Image.NEAREST)) > 127)
    return numpy.stack(found)


def kinds_of_evidence(about, tensor, pooled, rows, seed, pick_random):
    """Logits, distances, and distances above what is usual, all [pictures, positions, heads], of each view."""
    sides, fold = [h for h, _ in about["sizes"]], folds_of(about["pictures"])
    logits = [tensor(f"logits.{v}") for v in range(len(sides))]
    near, above = [], []
    for v, (side, l) in enumerate(zip(sides, logits)):
        for kind, d in zip((near, above), distances(pooled(f"pooled.{v}"), side, fold, rows, 100 * seed + v, pick_random)):
            a, b = (round(x.shape[1] ** 0.5) for x in (d, l))
            kind.append(resample(d.reshape(len(d), a, a, -1).astype(numpy.float32), b).reshape(l.shape))
    return logits, near, above


def head_scores(values, sides):
    """[pictures, heads]: the mean of the highest patches of each view, views by their sides."""
    return sum(side / max(sides) * highest(v, 0.003) for v, side in zip(values, sides))


def image_scores(scores, fold):
    """[pictures]: the rarity that more than half of the heads reach."""
    return numpy.median(rarities(scores, fold), axis=1)


def rules(about, tensor, pooled, rows, seed, pick_random, folder, views_power):
    pictures, sides = about["pictures"], [h for h, _ in about["sizes"]]
    fold = folds_of(pictures)
    test = numpy.array([p["split"] == "test" for p in pictures])
    labels, heads = numpy.array([p.get("label", 0) == 1 for p in pictures]), int(fold.max()) + 1
    logits, near, above = kinds_of_evidence(about, tensor, pooled, rows, seed, pick_random)

    def image(values):
        return auroc(labels[test], image_scores(head_scores(values, sides), fold)[test])

    truth = masks(folder, [p for p, t in zip(pictures, test) if t])

    def pixels(values):
        total = 0
        for v, side in zip(values, sides):
            unseen = [v[fold == h][:, :, h] for h in range(heads)]
            on_scale = sum((v[test][:, :, h] - u.mean()) / u.std() for h, u in enumerate(unseen)) / heads
            grid = round(v.shape[1] ** 0.5)
            total = total + (side / max(sides)) ** views_power * blur(resample(on_scale.reshape(-1, grid, grid, 1), SIDE)[:, :, :, 0], 4 * SIDE / side)
        return auroc(truth.ravel(), total.ravel()), few_marked(total, truth, labels[test])

    ways = {"heads alone": logits, "distance alone": near, "distance above the usual alone": above}
    for plain, usual in ((0.5, 0), (0.7, 0), (1, 0), (1.5, 0), (3, 0), (0, 0.7), (0, 1), (0, 1.5), (0.35, 0.35), (0.5, 0.5), (0.65, 0.65), (0.5, 1), (1, 1), (2, 1), (3, 1), (3, 0.5), (5, 1)):
        kinds = [f"{weight} {kind}" for weight, kind in ((plain, "distance"), (usual, "above the usual")) if weight]
        ways[" + ".join(["logit", *kinds])] = [l + plain * n + usual * a for l, n, a in zip(logits, near, above)]
    for limit, plain, usual in ((12, 3, 0), (8, 0, 0), (8, 0.5, 1), (8, 1, 1), (8, 3, 0), (8, 5, 0), (6, 3, 0), (4, 3, 0)):
        kinds = [f"{weight} {kind}" for weight, kind in ((plain, "distance"), (usual, "above the usual")) if weight]
        ways[" + ".join([f"logit up to {limit}", *kinds])] = [numpy.minimum(l, limit) + plain * n + usual * a for l, n, a in zip(logits, near, above)]
    return {name: (image(v), *(pixels(v) if truth is not None else (None, None))) for name, v in ways.items()}


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--dirty", type=int)
    parser.add_argument("--map-views", choices=MAP_VIEWS, default="area")
    args = parser.parse_args()
    sets, table = sets_of(args.data, args.sets), {}
    if args.pictures or args.dirty is not None:
        changed = tempfile.TemporaryDirectory()
        for i, name in enumerate(sets):
            sets[i] += f"_{args.pictures}" if args.pictures else ""
            sets[i] += f"_dirty{args.dirty}" if args.dirty is not None else ""
            data = Set(args.data / name, Path(changed.name) / sets[i])
            if args.pictures:
                data.keep(args.pictures, 0)
            if args.dirty is not None and data.spoil(args.dirty, 0) is None:
                sys.exit(f"{name}: too few defective pictures for --dirty {args.dirty}")
        args.data = Path(changed.name)
    for name in sets:
        pooled = None
        for seed in map(int, args.seeds.split(",")):
            path = evidence(args.data, args.evidence, name, seed, {**args.settings, "features": pooled is None})
            about, tensor = load(path)
            pooled = pooled or tensor
            for rule, found in rules(about, tensor, pooled, args.rows, seed, args.random, args.data / name, MAP_VIEWS[args.map_views]).items():
                table.setdefault(rule, {}).setdefault(name, []).append(found)
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)

    def show(found):
        return " / ".join(f"{numpy.mean(values):.3f}" for values in zip(*found) if None not in values)
    print("| rule | " + " | ".join(sets) + " | mean |\n|" + " --- |" * (len(sets) + 2))
    for rule, of_sets in table.items():
        mean = numpy.mean([numpy.mean([found[0] for found in of_sets[s]]) for s in sets])
        print(f"| {rule} | " + " | ".join(show(of_sets[s]) for s in sets) + f" | {mean:.4f} |")


if __name__ == "__main__":
    main()
