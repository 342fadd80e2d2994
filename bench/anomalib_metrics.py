#!/usr/bin/env python3
"""AUPRO and AU-PIMO of synthetic maps as anomalib measures them: the numbers that crates/pbas/tests/anomalib.rs compares with.

    python3 -m venv .venv
    .venv/bin/pip install --no-deps anomalib==2.7.0 && .venv/bin/pip install -r bench/anomalib_metrics.txt
    .venv/bin/python bench/anomalib_metrics.py crates/pbas/tests/golden/anomalib.json

The maps are made by whole numbers and single roundings alone, so that the test makes the same ones; nothing but figures is kept.
"""
import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.pimo.pimo import _AUPIMO

SIDE, GOOD, DEFECTIVE = 512, 16, 5
F = np.float32


def noise(seed):
    """SIDE x SIDE even numbers of 24 bits from 0 to 1, by a hash of the place."""
    place = np.arange(SIDE * SIDE, dtype=np.uint64)
    x = (place * 0x9E3779B1 + seed * 0x85EBCA77) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    x ^= x >> 16
    return ((x >> 8).astype(F) / F(1 << 24)).reshape(SIDE, SIDE)


def mask(j):
    """Of the j-th defective picture: a large part, one that touches it at a corner, and a small one."""
    m = np.zeros((SIDE, SIDE), dtype=bool)
    bottom, right = 40 + 10 * j, 60 + 20 * j
    m[20:bottom, 30:right] = True
    m[bottom : bottom + 7, right : right + 9] = True
    m[300 : 303 + j, 200:204] = True
    return m


def picture(i, step):
    """The i-th map: a heavy tail, heavier in defects; rounded down to multiples of `step` unless that is 0."""
    u = noise(2 * i)
    scores = u / (F(1 + 2**-10) - u)
    m = np.zeros((SIDE, SIDE), dtype=bool)
    if i >= GOOD:
        j = i - GOOD
        m = mask(j)
        v = noise(2 * i + 1)
        v = v * v
        scores = np.where(m, v * v * F(900 + 200 * j), scores)
    if step:
        scores = np.floor(scores / F(step)) * F(step)
    return scores, m


def figures(step, good):
    maps, masks = zip(*(picture(i, step) for i in list(range(good)) + list(range(GOOD, GOOD + DEFECTIVE))))
    maps, masks = torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(masks))
    result = {"step": step, "good": good}
    for limit in (0.3, 0.05):
        aupro = _AUPRO(fpr_limit=limit)
        aupro.update(maps, masks.int())
        result[f"aupro_{limit}"] = float(aupro.compute())
    if not step:
        aupimo = _AUPIMO(num_thresholds=300_000, return_average=False)
        aupimo.update(maps, masks.int())
        of_picture = aupimo.compute()[1].aupimos
        result["aupimo"] = [float(v) for v in of_picture if not torch.isnan(v)]
    return result


def main():
    cases = [figures(0, GOOD), figures(0, 6), figures(8, 6), figures(64, 4)]
    about = {name: version(name) for name in ("anomalib", "torch", "numpy")}
    text = {"made_by": "bench/anomalib_metrics.py", "with": about, "cases": cases}
    with open(sys.argv[1], "w") as file:
        json.dump(text, file, indent=1)
        file.write("\n")


main()
