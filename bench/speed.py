#!/usr/bin/env python3
"""Ratios of time, peer against `pbas`, on this machine: networks, whole detectors from JPEG file to verdict, training steps.

    cargo build --release --examples
    python3 bench/speed.py [--only PATTERN] [--avx2] [--rounds 15] [--threads 2] [--venv FOLDER] [--model part.pbas --onnx part.onnx --picture part.jpg]

Makes a Python environment with the pinned peers of bench/requirements.txt in FOLDER (once; needs the network). Each line of the table has two processes, one ours and one a peer's, on the same pinned
processors with as many threads; they take turns, A B A B, each stopped while the other works,
and the ratio of each pair is peer's time over ours: above 1 we are faster. Weights are random where only time counts.
`--avx2` holds ours, OpenVINO and torch to AVX2, as on a processor without AVX-512; onnxruntime cannot be held back and is left out.
`--model`, `--onnx` (from `pbas export`) and `--picture` (a JPEG) add the default preset's whole detector.
"""
import argparse
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import venv
from pathlib import Path

from common import ROOT, commit

EXAMPLES = ROOT / "target/release/examples"
NETWORKS = [("wide_resnet50_2", 288), ("resnet18", 288), ("efficientnet_lite0", 288), ("efficientnet_lite0", 512), ("efficientnet_lite0", 640)]
ENGINES = ["onnxruntime", "openvino-f32", "openvino", "torch"]


def environment(folder):
    python = folder / "bin/python"
    if not python.exists():
        print(f"making {folder} (needs the network)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", ROOT / "bench/requirements.txt"], check=True)
    return python


class Turn:
    """A process that does its work once for a line, and says how long it took."""

    def __init__(self, command, cores):
        def pin():
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, preexec_fn=pin)
        while True:
            line = self.process.stdout.readline()
            if line.strip() == "ready":
                return
            if not line:
                sys.exit(f"{' '.join(map(str, command))} failed:\n{self.process.stderr.read()}")

    def go(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        milliseconds = float(self.process.stdout.readline())
        # Threads of some runtimes spin on after their work, on the processors that the other one is about to use.
        self.process.send_signal(signal.SIGSTOP)
        return milliseconds

    def end(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def comparisons(args, python):
    """(name, peer's name, our command, peer's command)."""
    peer = [python, ROOT / "bench/peer.py"]
    threads = args.threads
    for batch in (1, 8):
        for network, size in NETWORKS:
            ours = [EXAMPLES / "features_speed", network, size, batch, threads]
            for engine in ENGINES:
                other = [*peer, "network", engine, network, size, batch, threads]
                yield f"{network}, {size} x {size}, batch {batch}", engine, ours, other
                if engine == "openvino":  # As it comes it computes in bfloat16 where the processor has it.
                    yield f"{network}, {size} x {size}, batch {batch}, ours in bfloat16", engine, [*ours, "bf16"], other
    if args.picture:
        yield ("detector, published shapes, JPEG to verdict", "Pillow, torch, scipy", [EXAMPLES / "detector_speed", "paper", args.picture, threads],
               [*peer, "detector", "paper", args.picture, threads])
        if args.model:
            ours = [EXAMPLES / "detector_speed", args.model, args.picture, threads]
            yield "detector, default preset, JPEG to verdict", "Pillow, torch, scipy", ours, [*peer, "detector", "default", args.picture, threads]
            if args.onnx:
                yield ("detector, default preset, JPEG to verdict", "our export in onnxruntime, OpenCV", ours,
                       [*peer, "exported", args.onnx, args.picture, threads])
    for preset in ("default", "paper"):
        yield (f"training step, {preset}", "torch", [EXAMPLES / "training_speed", preset, threads], [*peer, "step", preset, threads])
    # Every epoch of the published procedure computes the features anew; ours reads them from the cache.
    yield "training, paper, 8 pictures of an epoch", "torch", [EXAMPLES / "training_speed", "paper", threads], [*peer, "epoch", threads]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression: only lines that it is found in")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--venv", type=Path, default=ROOT / "target/peers")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    for name in ("features_speed", "detector_speed", "training_speed"):
        if not (EXAMPLES / name).exists():
            sys.exit(f"{EXAMPLES / name} is not there: cargo build --release --examples")
    python = environment(args.venv)
    if args.avx2:
        os.environ.update(PBAS_CPU="avx2", ONEDNN_MAX_CPU_ISA="AVX2", DNNL_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")
    cores = sorted(os.sched_getaffinity(0))[:args.threads] if hasattr(os, "sched_getaffinity") else []
    print(f"Commit {commit()}; {platform.processor() or platform.machine()}, {args.threads} threads{', AVX2 alone' if args.avx2 else ''}; medians of {args.rounds} pairs; load at the start "
          f"{os.getloadavg()[0]:.1f}.\n")
    print("| what | peer | ours | peer's | ratio | least to greatest |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for what, peer, ours, other in comparisons(args, python):
        if not re.search(args.only, f"{what} {peer}") or (args.avx2 and "onnxruntime" in peer):
            continue
        a, b = Turn(ours, cores), Turn(other, cores)
        pairs = [(a.go(), b.go()) for _ in range(args.rounds + 1)][1:]  # The first warms caches.
        a.end(), b.end()
        ratios = sorted(p / o for o, p in pairs)
        mine, theirs = (statistics.median(x) for x in zip(*pairs))
        print(f"| {what} | {peer} | {mine:.1f} ms | {theirs:.1f} ms | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
