#!/usr/bin/env bash
# All that a GPU has to show, in one run of under nine minutes that needs no network.
#
#   benchmarks/gpu.sh --wheels DIR [--json FILE]      on the machine with the GPU; FILE is gpu.json unless named
#   benchmarks/gpu.sh --wheels DIR --check            the same steps with tiny models on a CPU: a few minutes
#   benchmarks/gpu.sh --collect DIR [PACKAGE...]      before that, with a network: the wheels for Python 3.12
#
# The Python that is called python3 (or $PYTHON) must have torch, torchvision and transformers, which are used as they
# are. What else is missing comes from DIR into an environment that goes afterwards; without DIR nothing may be missing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
budget=530 # seconds for everything
check=() json=gpu.json wheels=""

# Call pip with these arguments for the requirements on standard input. qwen-vl-utils goes without av (35 MB), which
# reads videos and is imported nowhere.
for_each_kind() {
    local all others alone
    all=$(cat)
    alone=$(grep '^qwen-vl-utils' <<<"$all" || true)
    others=$(grep -v '^qwen-vl-utils' <<<"$all" || true)
    if [[ -n $others ]]; then "$@" --requirement <(echo "$others"); fi
    if [[ -n $alone ]]; then "$@" --no-deps --requirement <(echo "$alone"); fi
}

collect() {
    local folder=$1 platforms=()
    shift
    for platform in manylinux1 manylinux2014 manylinux_2_{5..39}; do platforms+=(--platform "${platform}_x86_64"); done
    if (($#)); then printf '%s\n' "$@"; else "$python" "$root/benchmarks/missing.py" --all; fi |
        for_each_kind "$python" -m pip download --quiet --dest "$folder" --only-binary=:all: \
            --python-version 3.12 --implementation cp "${platforms[@]}"
    du -ch "$folder"/*.whl
}

# An environment in $1 that sees all packages of $python, also where that is itself in an environment.
make_environment() {
    local missing
    "$python" -m venv --without-pip --system-site-packages "$1"
    "$python" -c 'import site; print(*site.getsitepackages(), sep="\n")' \
        >"$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/of_the_machine.pth"
    missing=$("$1/bin/python" "$root/benchmarks/missing.py")
    if [[ -z $missing ]]; then return; fi
    if [[ -z $wheels ]]; then
        printf 'missing here:\n%s\nwith a network: benchmarks/gpu.sh --collect DIR %s\nthen here: --wheels DIR\n' \
            "$missing" "$(sed 's/[<>=].*//' <<<"$missing" | paste -sd ' ')" >&2
        return 1
    fi
    "$1/bin/python" -c 'if True:
        from importlib.metadata import version
        print(*(f"{name}=={version(name)}" for name in ("torch", "torchvision", "transformers")), sep="\n")
    ' >"$1/constraints.txt"
    for_each_kind "$1/bin/python" -m pip install --quiet --no-index --find-links "$wheels" \
        --constraint "$1/constraints.txt" <<<"$missing"
}

while (($#)); do
    case $1 in
    --collect) shift && collect "$@" && exit ;;
    --wheels) wheels=$2 && shift 2 ;;
    --json) json=$2 && shift 2 ;;
    --check) check=(--check) && shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
    esac
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
make_environment "$scratch"
"$scratch/bin/python" "$root/benchmarks/gpu.py" "${check[@]}" --json "$json" --budget $((budget - SECONDS))
