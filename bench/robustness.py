#!/usr/bin/env python3
"""What real training folders do to `pbas`: few good pictures, defective ones among them, and test pictures of another day.

    cargo build --release
    python3 bench/robustness.py few DATA_FOLDER [--sets a,b] [--seeds 0,1,2] [--counts 5,10,20,50,all]
    python3 bench/robustness.py dirty DATA_FOLDER [--sets a,b] [--seeds 0,1,2] [--counts 0,1,5,10]
    python3 bench/robustness.py nuisance DATA_FOLDER [--sets a,b] [--seeds 0]      (needs Pillow and numpy)

DATA_FOLDER holds sets in MVTec layout. Each run trains and evaluates on a changed copy of a set in a temporary folder and prints a Markdown table; `-- TRAIN FLAGS`
are handed to `pbas train`.

few: so many good pictures, drawn by the seed; the test set is whole.
dirty: so many per cent of the training pictures are defective ones of the test set, which then lacks them (also where 0 % are put in, so that the rows compare);
  then trained again without those of them that training had named.
nuisance: training and test set as they are, then every test picture changed; how far scores of good pictures move, in orders of magnitude of rarity.
"""
import argparse
import io
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, arguments, sets_of

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
FEW = "5,10,20,50,all"
DIRTY, MOST_DIRTY = "0,1,5,10", 10


def pictures(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)


class Set:
    """A copy of a set, made of links, that can be changed."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        shutil.copytree(source, target, copy_function=lambda a, b: Path(b).symlink_to(Path(a).resolve()))

    def good(self):
        return pictures(self.target / "train/good")

    def keep(self, count, seed):
        """Leaves `count` good pictures, drawn by the seed."""
        good = self.good()
        for extra in random.Random(seed).sample(good, len(good) - count):
            extra.unlink()

    def defective(self):
        return [p for d in sorted((self.target / "test").iterdir()) if d.is_dir() and d.name != "good" for p in pictures(d)]

    def spoil(self, percent, seed):
        """Puts so many per cent of defective test pictures among the good ones, drawn by the seed; the test set lacks MOST_DIRTY per cent whatever `percent` is. How many were put in, or
        None, and nothing is done, where the set is too small."""
        good, defective = len(self.good()), self.defective()
        count, largest = (round(good * p / 100) for p in (percent, MOST_DIRTY))
        if 2 * largest > len(defective) or (percent and not count):
            return None
        for i, path in enumerate(random.Random(seed).sample(defective, largest)):
            if i < count:
                path.rename(self.target / f"train/good/dirty_{i}_{path.name}")
            else:
                path.unlink()
        return count


def evaluate(pbas, data, seed, flags, model=None):
    """Trains (unless there is a model) and evaluates; the results, with the paths of the suspects that training named."""
    with tempfile.TemporaryDirectory() as work:
        named = ""
        if model is None:
            model = Path(work) / "m.pbas"
            run = subprocess.run([pbas, "train", data, "-o", model, "--seed", str(seed), *flags], capture_output=True, text=True)
            if run.returncode:
                sys.exit(run.stderr)
            named = run.stderr
        report = Path(work) / "r.json"
        run = subprocess.run([pbas, "eval", model, data, "--json", report], capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        return json.loads(report.read_text()), named


def mean(values):
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def missed(results):
    return f"{sum(r['missed'] for r in results)} of {sum(r['defective'] for r in results)}"


def few(args, name):
    for count in [None if c == "all" else int(c) for c in (args.counts or FEW).split(",")]:
        results = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as work:
                data = Set(args.data / name, Path(work) / name)
                good = len(data.good())
                if count is not None and count >= good:
                    break
                data.keep(count or good, seed)
                results.append(evaluate(args.pbas, data.target, seed, args.flags)[0])
        if results:
            yield [name, str(count or "all"), mean([r["image_auroc"] for r in results]),
                   f"{sum(r['false_rejects'] for r in results)} of {sum(r['good'] for r in results)}",
                   missed(results)]


def dirty(args, name):
    clean, percents = {}, [int(c) for c in (args.counts or DIRTY).split(",")]
    if percents[0] != 0 or max(percents) > MOST_DIRTY:
        sys.exit(f"--counts: expected per cents up to {MOST_DIRTY}, 0 first, found {args.counts}")
    for percent in percents:
        losses, found, results, mended, put_in = [], 0, [], [], 0
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as work:
                data = Set(args.data / name, Path(work) / name)
                count = data.spoil(percent, seed)
                if count is None:
                    break
                result, warnings = evaluate(args.pbas, data.target, seed, args.flags)
                results.append(result)
                put_in += count
                named = {data.target / "train/good" / Path(w).name for w in warnings.split("`") if Path(w).name.startswith("dirty_")}
                found += len(named)
                for path in named:
                    path.unlink()
                mended.append(evaluate(args.pbas, data.target, seed, args.flags)[0] if named else result)
                clean.setdefault(seed, result["image_auroc"])
                losses.append(clean[seed] - result["image_auroc"])
        if results:
            yield [name, f"{percent} %", mean([r["image_auroc"] for r in results]), f"{statistics.mean(losses):+.3f}", missed(results),
                   f"{found} of {put_in}", mean([r["image_auroc"] for r in mended]), missed(mended)]


def nuisances():
    """Name -> function of a Pillow picture."""
    import numpy
    from PIL import Image, ImageEnhance, ImageFilter

    def pixels(change):
        return lambda p: Image.fromarray(numpy.clip(change(numpy.asarray(p).astype(float)), 0, 255).round().astype(numpy.uint8))

    def jpeg(quality):
        def change(picture):
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=quality)
            return Image.open(data).convert("RGB")
        return change

    def moved(turn, shift):
        def change(picture):
            # The margin is mirrored, so that no black corner is what is found.
            a = numpy.asarray(picture)
            m = max(a.shape) // 8
            wide = Image.fromarray(numpy.pad(a, ((m, m), (m, m), (0, 0)), mode="reflect"))
            wide = wide.rotate(turn, Image.BICUBIC, translate=(shift * a.shape[1], shift * a.shape[0]))
            return wide.crop((m, m, m + a.shape[1], m + a.shape[0]))
        return change

    noise = numpy.random.default_rng(0)
    return {
        "as they are": lambda p: p,
        "brightness x 0.9": lambda p: ImageEnhance.Brightness(p).enhance(0.9),
        "brightness x 1.1": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
        "contrast x 0.8": lambda p: ImageEnhance.Contrast(p).enhance(0.8),
        "gamma 0.8": pixels(lambda a: 255 * (a / 255) ** 0.8),
        "gamma 1.25": pixels(lambda a: 255 * (a / 255) ** 1.25),
        "shift 2 %": moved(0, 0.02),
        "rotation 2 degrees": moved(2, 0),
        "JPEG quality 75": jpeg(75),
        "JPEG quality 40": jpeg(40),
        "noise, deviation 5": pixels(lambda a: a + noise.normal(0, 5, a.shape)),
        "defocus, 1 pixel": lambda p: p.filter(ImageFilter.GaussianBlur(1)),
    }


def nuisance(args, name):
    from PIL import Image
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as work:
            model = Path(work) / "m.pbas"
            subprocess.run([args.pbas, "train", args.data / name, "-o", model, "--seed", str(seed), *args.flags], check=True, capture_output=True)
            before = None
            for what, change in nuisances().items():
                target = Path(work) / "changed"
                for path in pictures(args.data / name / "test"):
                    out = target / path.relative_to(args.data / name).with_suffix(".png")
                    out.parent.mkdir(parents=True, exist_ok=True)
                    change(Image.open(path).convert("RGB")).save(out, compress_level=1)
                result, _ = evaluate(args.pbas, target, seed, [], model)
                scores = {s["path"]: s["rank_score"] for s in result["samples"] if s["defect_type"] == "good"}
                before = before or scores
                move = statistics.median(scores[k] - before[k] for k in scores)
                yield [name, what, f"{result['image_auroc']:.3f}", f"{move:+.2f}", f"{result['false_rejects']} of {result['good']}",
                       f"{result['missed']} of {result['defective']}"]
                shutil.rmtree(target)


KINDS = {
    "few": (few, ["set", "good pictures", "image AUROC", "false rejects", "missed"]),
    "dirty": (dirty, ["set", "defective among the good", "image AUROC", "loss", "missed", "named by training", "image AUROC without these", "missed"]),
    "nuisance": (nuisance, ["set", "test pictures", "image AUROC", "good scores move by", "false rejects", "missed"]),
}


def main():
    argv, flags = arguments()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", help="folders of DATA_FOLDER; all of them if left out")
    parser.add_argument("--seeds", default=None, help="[default: 0,1,2; nuisance: 0]")
    parser.add_argument("--counts", help=f"few: numbers of good pictures [default: {FEW}]; dirty: per cents up to {MOST_DIRTY}, 0 first [default: {DIRTY}]")
    parser.add_argument("--pbas", type=Path, default=ROOT / "target/release/pbas")
    args = parser.parse_args(argv)
    args.flags = flags
    args.data = args.data.resolve()
    seeds = args.seeds or ("0" if args.kind == "nuisance" else "0,1,2")
    args.seeds = [int(s) for s in seeds.split(",")]
    sets = sets_of(args.data, args.sets)
    work, head = KINDS[args.kind]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for name in sets:
        for row in work(args, name):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
