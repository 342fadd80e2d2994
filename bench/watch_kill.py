"""Drops pictures into a folder that `pbas watch` watches while it is killed with SIGKILL again and again: is every picture recorded once?

    python3 bench/watch_kill.py [--pictures 2000] [--kills 20] [--pbas target/release/pbas]

Trains a tiny model on pictures of `pbas demo`'s kind first. Every kind of drop is used: written at once, slowly, and renamed into place; one
in a hundred is no picture. Good pictures and rejects are moved. Exit code 1 where a picture is missing, twice, or left behind.
"""
import argparse
import collections
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import ROOT, commit

TINY = ["--size", "64", "--steps", "5", "--folds", "2", "--batch-size", "100", "--hidden", "16"]


def drop(folder, pictures, count, pace, rng):
    """Drops them one after the other, from its own thread."""
    for i in range(count):
        bad = i % 100 == 50
        data = b"this is no picture %d" % i if bad else pictures[i % len(pictures)].read_bytes()
        # Something of its own in each, so that contents differ: bytes behind the end of a PNG are passed over.
        data += b"%d" % i
        target = folder / f"{i:05}.png"
        way = rng.randrange(3)
        if way == 0:
            target.write_bytes(data)
        elif way == 1:
            with open(target, "wb") as f:
                for at in range(0, len(data), len(data) // 3 + 1):
                    f.write(data[at:at + len(data) // 3 + 1])
                    f.flush()
                    time.sleep(0.002)
        else:
            half = folder / f"{i:05}.part"
            half.write_bytes(data)
            half.rename(target)
        time.sleep(pace)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pbas", default=str(ROOT / "target/release/pbas"))
    parser.add_argument("--demo", required=True, help="a folder of `pbas demo`: train/good and test are used")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = root / "tiny.pbas"
        train = root / "train"
        shutil.copytree(Path(args.demo) / "train/good", train)
        subprocess.run([args.pbas, "-q", "train", str(train), "-o", str(model), *TINY], check=True)
        pictures = sorted((Path(args.demo) / "test").glob("*/*.png"))
        folder, db = root / "in", root / "line.sqlite"
        folder.mkdir()
        command = [args.pbas, "watch", str(folder), "--model", str(model), "--db", str(db), "--quiet-time", "300ms",
                   "--poll", "100ms", "--give-up", "2s", "--no-pictures", "--move", f"good={root}/good,anomalous={root}/bad"]
        dropper = threading.Thread(target=drop, args=(folder, pictures, args.pictures, 0.01, rng))
        dropper.start()
        start, lines, killed, at_kills = time.time(), root / "lines.jsonl", 0, []
        with open(lines, "ab") as out, open(root / "err.txt", "ab") as err:
            while True:
                process = subprocess.Popen(command, stdout=out, stderr=err)
                if killed < args.kills:
                    time.sleep(rng.uniform(0.5, 3.0))
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    killed += 1
                    at_kills.append(count(args.pbas, db) if db.exists() else 0)
                    continue
                last, since = -1, time.time()
                while dropper.is_alive() or time.time() - since < 6:
                    time.sleep(0.5)
                    found = count(args.pbas, db)
                    if found != last:
                        last, since = found, time.time()
                process.send_signal(signal.SIGTERM)
                if process.wait() != 0:
                    sys.exit("it did not end well")
                break
        dropper.join()
        print(f"parts in the record after each kill: {' '.join(map(str, at_kills))}")
        report(args, root, db, lines, folder, killed, time.time() - start)


def rows(pbas, db):
    out = subprocess.run([pbas, "history", str(db), "--format", "jsonl"], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def count(pbas, db):
    return len(rows(pbas, db))


def report(args, root, db, lines, folder, killed, seconds):
    names = collections.Counter(row["name"] for row in rows(args.pbas, db))
    expected = {f"{i:05}.png" for i in range(args.pictures)}
    twice = [n for n, c in names.items() if c > 1]
    missing = sorted(expected - set(names))
    left = [p.name for p in folder.iterdir() if p.is_file()]
    moved = sum(len(list((root / d).iterdir())) for d in ("good", "bad", "in/unreadable") if (root / d).is_dir())
    printed = collections.Counter()
    torn = 0
    for line in lines.read_bytes().split(b"\n"):
        try:
            printed[json.loads(line)["id"]] += 1
        except ValueError:
            torn += bool(line)
    verified = subprocess.run([args.pbas, "history", "verify", str(db)], stdout=subprocess.DEVNULL).returncode
    print(f"commit {commit()}: {args.pictures} pictures, {killed} kills, {seconds:.0f} s")
    print(f"recorded once {sum(1 for n in expected if names[n] == 1)} of {args.pictures}; twice {len(twice)}, missing {len(missing)}, "
          f"strange {len(set(names) - expected)}")
    print(f"moved {moved}, left behind {len(left)}; lines for {len(printed)} parts, {sum(printed.values()) - len(printed)} of them "
          f"again, {torn} torn by a kill")
    print(f"history verify: {'holds' if verified == 0 else 'DOES NOT HOLD'}")
    whole = not twice and not missing and not left and moved == args.pictures and verified == 0
    sys.exit(0 if whole and len(printed) == args.pictures and set(names) == expected else 1)


if __name__ == "__main__":
    main()
