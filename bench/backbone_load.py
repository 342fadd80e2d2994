#!/usr/bin/env python3
"""Seconds that a WideResNet50-2 of random weights takes to load, from each of the three kinds of files, and whether all give the same bytes.

    pip install safetensors -r bench/requirements.txt
    cargo build --release -p pbas --example backbone_load
    python3 bench/backbone_load.py target/release/examples/backbone_load
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file


def main():
    torch.manual_seed(0)
    state = torchvision.models.wide_resnet50_2(weights=None).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        zipped, old, safe = (Path(folder) / name for name in ("zip.pth", "2019.pth", "wide.safetensors"))
        torch.save(state, zipped)
        torch.save(state, old, _use_new_zipfile_serialization=False)
        save_file(state, safe)
        sys.exit(subprocess.run([sys.argv[1], *map(str, (zipped, old, safe))]).returncode)


main()
