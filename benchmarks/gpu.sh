#!/usr/bin/env bash
# All that has to be measured on a GPU, in at most five minutes, into one JSON file:
#
#     benchmarks/gpu.sh RESULT.json             # on a GPU
#     benchmarks/gpu.sh RESULT.json --tiny      # on a CPU: do all parts give numbers?
#
# It needs neither Ray nor Optuna; beside torch, torchvision, timm, segmentation-models-pytorch and
# albumentations kdsweep's training needs pydantic, msgspec, ruamel.yaml, safetensors, filelock,
# annotated-types and opencv. A part that fails or takes too long leaves its error, and the others
# go on; the exit code is 1 then.
set -u
result=${1:?usage: gpu.sh RESULT.json [--tiny]}
result=$(realpath "$result")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$(dirname "$here")${PYTHONPATH:+:$PYTHONPATH}"
parts=$(mktemp -d)
trap 'rm -r "$parts"' EXIT
export KDSWEEP_CACHE="$parts/cache"

# part NAME SECONDS BENCHMARK ARGUMENTS…: its output, errors and exit code go into files.
part() {
    local name=$1 limit=$2 script=$3
    shift 3
    echo "$name …" >&2
    local begun=$SECONDS
    timeout -k 5 "$limit" python "$here/$script.py" "$@" --json \
        >"$parts/$name.out" 2>"$parts/$name.err"
    echo "$? $((SECONDS - begun))" >"$parts/$name.end"
}

if [ "${2-}" = --tiny ]; then
    # A C++ compiler would take minutes for what is only to be run here.
    export TORCH_COMPILE_DISABLE=1
    size="--height 32 --width 64 --batch-size 2 --teacher resnet18"
    part step 300 step $size --timed 2 --rounds 1 --matrix 64
    part compile 300 compile $size --steps 1 --rounds 1 --modes default
    part cohort 300 cohort $size --students 2 4 --steps 1 --rounds 1
    part packing 300 packing $size --processes 1 2 --seconds 0.5 --rounds 1
    part seed_loop 300 seed_loop $size --frames 4 --rounds 1
    part loader 300 loader $size --frames 4 --rounds 1
    part memory 300 memory $size --pairs resnet18:resnet18 --students 1 2
else
    size="--precision bf16 --height 352 --width 480"
    part step 40 step $size --timed 20 --rounds 5
    part compile 85 compile $size --steps 20 --rounds 5 --modes default
    part cohort 40 cohort $size --students 2 4 8 --steps 10 --rounds 3
    part packing 60 packing $size --processes 1 2 4 8 --seconds 4 --rounds 1
    part seed_loop 30 seed_loop --height 352 --width 480 --frames 32 --rounds 2
    part loader 25 loader --height 352 --width 480 --frames 64 --rounds 5
    part memory 20 memory $size
fi

python - "$parts" "$result" <<'END'
import json
import sys
from pathlib import Path

parts, found = Path(sys.argv[1]), {}
for end in sorted(parts.glob("*.end"), key=lambda path: path.stat().st_mtime_ns):
    code, seconds = map(int, end.read_text().split())
    found[end.stem] = {"seconds": seconds}
    if code:
        error = "took too long" if code in (124, 137) else f"exit code {code}"
        said = end.with_suffix(".err").read_text()[-2000:]
        found[end.stem] |= {"error": error, "said": said}
    else:
        # Libraries may have printed before.
        found[end.stem] |= json.loads(end.with_suffix(".out").read_text().splitlines()[-1])
Path(sys.argv[2]).write_text(json.dumps(found, indent=1) + "\n")
for name, part in found.items():
    for ratio, values in part.get("ratios", {}).items():
        print(f"{name:12}{ratio:60}{values['median']:9.4g}")
    if "error" in part:
        print(f"{name:12}{part['error']}\n{part['said']}")
sys.exit(any("error" in part for part in found.values()))
END
