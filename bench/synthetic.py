#!/usr/bin/env python3
"""Asks whether defects drawn into good pictures could choose what counts how much: the weight of the distance to remembered patches, and evidence about the
whole picture. They may only if what separates them best also separates the real ones best.

    cargo build --release -p pbas --example evidence
    python3 bench/synthetic.py DATA_FOLDER EVIDENCE_FOLDER [--sets a,b] [--seeds 0]

For each set, copies of good training pictures get a patch pasted from elsewhere, a scratch, a change of tone, a blur or an erased spot; the example `evidence` trains once
as `pbas train` does (heads and banks have seen the originals of all folds but one) and writes what heads say to EVIDENCE_FOLDER. Prints for each rule two image AUROCs: of the real test set, and of
the drawn defects against good pictures, each by the head that has seen neither (mean over heads). Needs numpy and Pillow. Test labels are seen here by a person; never by training.
"""
import random
import sys
import tempfile
from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageFilter

from common import sets_of
from fusion import head_scores, image_scores, kinds_of_evidence
from recipes import auroc, evidence, folds_of, load, parser_of
from robustness import Set

DRAWN = 96  # Pictures with a drawn defect, of each set.
KINDS = ["paste", "tone", "scratch", "blur", "erase"]
WEIGHTS = [0, 0.35, 0.7, 1, 1.5, 3]
BEYOND = 2  # Deviations from which on the whole picture counts.
SHRINK = 0.1  # Share of the identity in its covariance.


def spot(rng, height, width, size):
    """A ragged ellipse somewhere in the picture, [height, width, 1] within 0..1."""
    mask = Image.new("L", (width, height), 0)
    x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    a, b, turn = size * rng.uniform(0.5, 1.5), size * rng.uniform(0.3, 1), rng.uniform(0, numpy.pi)
    points = []
    for t in numpy.linspace(0, 2 * numpy.pi, 24, endpoint=False):
        r = rng.uniform(0.8, 1.2)
        u, v = a * r * numpy.cos(t), b * r * numpy.sin(t)
        points.append((x + u * numpy.cos(turn) - v * numpy.sin(turn), y + u * numpy.sin(turn) + v * numpy.cos(turn)))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return numpy.asarray(mask.filter(ImageFilter.GaussianBlur(0.7)), numpy.float32)[:, :, None] / 255


def line(rng, height, width):
    mask = Image.new("L", (width, height), 0)
    side, turn = min(height, width), rng.uniform(0, 2 * numpy.pi)
    x, y, length = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height, side * rng.uniform(0.04, 0.2)
    points = [(x, y)]
    for _ in range(4):
        x, y, turn = x + length / 4 * numpy.cos(turn), y + length / 4 * numpy.sin(turn), turn + rng.uniform(-0.4, 0.4)
        points.append((x, y))
    ImageDraw.Draw(mask).line(points, fill=255, width=max(1, int(side * rng.uniform(0.003, 0.01))))
    return numpy.asarray(mask.filter(ImageFilter.GaussianBlur(0.6)), numpy.float32)[:, :, None] / 255


def with_defect(picture, kind, rng):
    """A copy in which something of 1.5 to 8 % of the picture's side is wrong, and shows."""
    a = numpy.asarray(picture, numpy.float32)
    height, width = a.shape[:2]
    for _ in range(40):
        size = min(height, width) * numpy.exp(rng.uniform(numpy.log(0.015), numpy.log(0.08)))
        mask = line(rng, height, width) if kind == "scratch" else spot(rng, height, width, size)
        if kind == "paste":
            by = rng.randint(-height * 2 // 5, height * 2 // 5), rng.randint(-width * 2 // 5, width * 2 // 5)
            other = numpy.roll(a, by, (0, 1))
        elif kind == "blur":
            other = numpy.asarray(picture.filter(ImageFilter.GaussianBlur(float(max(1.5, size / 4)))), numpy.float32)
        elif kind == "erase":
            around = Image.fromarray((mask[:, :, 0] * 255).astype(numpy.uint8)).filter(ImageFilter.MaxFilter(7))
            ring = numpy.asarray(around, numpy.float32)[:, :, None] / 255 - mask
            other = (a * ring).sum((0, 1)) / max(ring.sum(), 1e-3)
        else:
            other = a + rng.choice([-1, 1]) * rng.uniform(30, 80)
        changed = a * (1 - mask) + numpy.clip(other, 0, 255) * mask
        inside = mask[:, :, 0] > 0.5
        if inside.any() and numpy.abs(changed - a).mean(axis=2)[inside].mean() > 6:
            break
    return Image.fromarray(changed.round().astype(numpy.uint8))


def draw(data):
    """Adds `test/synthetic` to a copy of a set."""
    rng, out = random.Random(5), data.target / "test/synthetic"
    out.mkdir()
    good = data.good()
    rng.shuffle(good)
    for i in range(DRAWN):
        source, kind = good[i % len(good)], KINDS[i % len(KINDS)]
        with_defect(Image.open(source).convert("RGB"), kind, rng).save(out / f"{i:03}_{kind}__{source.name}.png", compress_level=1)


def whole_picture(means, fold, heads):
    """[pictures, heads]: Mahalanobis distance (its logarithm) of a picture's feature means and deviations from those of the pictures that a head has seen, in
    deviations of such distances between folds that it has seen."""
    x = numpy.concatenate(means, axis=1).astype(numpy.float64)

    def distance(seen):
        z = (x - x[seen].mean(axis=0)) / (x[seen].std(axis=0) + 1e-4)
        _, singular, directions = numpy.linalg.svd(z[seen], full_matrices=False)
        along = (z @ directions.T) ** 2
        inverse = 1 / ((1 - SHRINK) * singular ** 2 / seen.sum() + SHRINK)
        return numpy.log(numpy.sqrt((along * inverse).sum(axis=1) + ((z ** 2).sum(axis=1) - along.sum(axis=1)).clip(0) / SHRINK) + 1e-9)

    found = []
    for h in range(heads):
        seen = (fold >= 0) & (fold != h)
        others = numpy.concatenate([distance(seen & (fold != f))[fold == f] for f in range(heads) if f != h])
        found.append((distance(seen) - numpy.median(others)) / others.std())
    return numpy.stack(found, axis=1)


def rules(about, tensor, seed):
    """By rule: image AUROC of the real test set, and of the drawn defects."""
    pictures, sides = about["pictures"], [h for h, _ in about["sizes"]]
    fold = folds_of(pictures)
    of_good = {p["name"]: p["unseen_by"] for p in pictures if p["split"] == "good"}
    source = numpy.array([of_good[Path(p["name"]).name.split("__", 1)[1].removesuffix(".png")] if "/synthetic/" in p["name"] else -1 for p in pictures])
    drawn = source >= 0
    test = (fold < 0) & ~drawn
    labels = numpy.array([p.get("label", 0) == 1 for p in pictures])
    logits, near, _ = kinds_of_evidence(about, tensor, tensor, 2000, seed, False)
    heads = logits[0].shape[2]

    def both(scores):
        def of_head(h):
            either = (fold == h) | (source == h)
            return auroc(drawn[either], scores[either, h])
        return auroc(labels[test], image_scores(scores, fold)[test]), numpy.mean([of_head(h) for h in range(heads)])

    found = {f"logit + {w} distance": both(head_scores([l + w * n for l, n in zip(logits, near)], sides)) for w in WEIGHTS}
    found["distance alone"] = both(head_scores(near, sides))
    whole = whole_picture([tensor(f"means.{v}") for v in range(len(sides))], fold, heads)
    found["whole picture alone"] = both(whole)
    patches = head_scores([l + 0.7 * n for l, n in zip(logits, near)], sides)
    unit = numpy.mean([patches[fold == h, h].std() for h in range(heads)])
    found["logit + 0.7 distance, + half the whole picture"] = both(patches + 0.5 * unit * whole)
    found[f"logit + 0.7 distance, + whole picture beyond {BEYOND}"] = both(patches + unit * numpy.maximum(0, whole - BEYOND))
    return found


def main():
    parser = parser_of(__doc__)
    parser.set_defaults(seeds="0")
    args = parser.parse_args()
    sets, table = sets_of(args.data, args.sets), {}
    for name in sets:
        with tempfile.TemporaryDirectory() as work:
            draw(Set(args.data / name, Path(work) / name))
            for seed in map(int, args.seeds.split(",")):
                path = evidence(Path(work), args.evidence, name, seed, {**args.settings, "features": True})
                for rule, found in rules(*load(path), seed).items():
                    table.setdefault(rule, {}).setdefault(name, []).append(found)
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    print("| rule | " + " | ".join(sets) + " |\n|" + " --- |" * (len(sets) + 1))
    for rule, of_sets in table.items():
        cells = ["{:.3f} / {:.3f}".format(*numpy.mean(of_sets[s], axis=0)) for s in sets]
        print(f"| {rule} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
