"""Time of `pbas history` on a record of many rows, in every format; Parquet is opened with pyarrow where it is installed.

    python3 bench/history_export.py [--rows 10000] [--pbas target/release/pbas] [--keep FILE]

The record is made by `cargo run --example many_parts` (rows with regions, thumbnails and maps of a usual size).
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, commit


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--pbas", default=str(ROOT / "target/release/pbas"))
    parser.add_argument("--maker", help="the example many_parts, built")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = str(Path(folder) / "line.sqlite")
        maker = [args.maker] if args.maker else ["cargo", "run", "--quiet", "--release", "-p", "pbas-line", "--example", "many_parts", "--"]
        subprocess.run([*maker, db, str(args.rows)], check=True, cwd=ROOT)
        print(f"commit {commit()}, {args.rows} rows, {Path(db).stat().st_size / 1e6:.1f} MB")
        for kind in ("table", "csv", "jsonl", "parquet"):
            out = Path(folder) / f"parts.{kind}"
            times = []
            for _ in range(3):
                start = time.perf_counter()
                subprocess.run([args.pbas, "-q", "history", db, "--format", kind, "-o", str(out)], check=True)
                times.append(time.perf_counter() - start)
            print(f"{kind:8} {min(times):6.2f} s at best, {max(times):6.2f} s at worst, {out.stat().st_size / 1e6:6.2f} MB")
        start = time.perf_counter()
        subprocess.run([args.pbas, "history", "verify", db], check=True, stdout=subprocess.DEVNULL)
        print(f"verify   {time.perf_counter() - start:6.2f} s")
        check(Path(folder), args.rows)


def check(folder, rows):
    """Parquet says what the JSON lines say."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        print("pyarrow is not installed: the Parquet file was not opened with it", file=sys.stderr)
        return
    table = parquet.read_table(folder / "parts.parquet").to_pylist()
    lines = [json.loads(line) for line in (folder / "parts.jsonl").read_text().splitlines()]
    assert len(table) == len(lines) == rows, (len(table), len(lines))
    for row, line in zip(table, lines):
        for name in ("id", "name", "sha256", "verdict", "image_score", "p_value", "width", "error", "review"):
            assert row[name] == line.get(name), (name, row, line)
        assert json.loads(row["regions"] or "[]") == line.get("regions", []), (row, line)
        assert abs(row["time"].timestamp() - parse(line["time"])) < 1e-5, (row, line)
    print(f"pyarrow reads the same {rows} rows from the Parquet file")


def parse(text):
    from datetime import datetime
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    main()
