#!/usr/bin/env bash
# All that is measured on a GPU, in one command: tests/gpu/run.sh [--dry] [-o FOLDER] [--help]
#
# From a checkout. The Python is
#   LRAM_GPU_PYTHON   one that has PyTorch and what lram-bench needs (lram-bench itself comes from the checkout), or
#   LRAM_GPU_WHEELS   a folder of wheels: a virtual environment is made of them, without a network, or
#   else python3.
# LRAM_GPU_DEVICE (cuda) is where; LRAM_GPU_BUDGET (480) the seconds for all steps, of which each has its share;
# LRAM_GPU_ONLY, as gate,floor, the steps that are run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lram-gpu-XXXXXX")
trap 'rm -rf "$scratch"' EXIT

python=${LRAM_GPU_PYTHON:-python3}
if [ -n "${LRAM_GPU_WHEELS:-}" ]; then
    "$python" -m venv "$scratch/venv"
    python=$scratch/venv/bin/python
    "$python" -m pip install --quiet --no-index --find-links "$LRAM_GPU_WHEELS" "$LRAM_GPU_WHEELS"/*.whl
fi

# The checkout's rooms are the package lram, whatever is installed.
mkdir "$scratch/lram"
for room in envs agents harness reports; do ln -s "$root/$room" "$scratch/lram/$room"; done
export PYTHONPATH=$scratch:$root/tests${PYTHONPATH:+:$PYTHONPATH}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE MPLBACKEND=agg
"$python" -m gpu.run "$@"
