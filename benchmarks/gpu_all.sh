#!/usr/bin/env bash
# Measures what one GPU should tell, the most important first, and puts all of it into one archive.
#
#   OUT=results bash benchmarks/gpu_all.sh [check] [replayed] [plain] [profile] [encode] [at-once] \
#       [million] [growth] [llama] [expandable]
#
# Without names all of them run. $OUT/performance-gpu.tar.gz is renewed behind every run: a folder
# performance-gpu with SHAPE-TOKENS.../PART.json, as benchmarks/results has it, and a log of each.
# SECONDS_LEFT=600 ends it after so long, and what was left out makes it fail; without, nothing does.
# LARGE=qwen2.5-3b, LARGER=llama-3.1-8b, LITTLE=qwen2.5-0.5b, CHECKED=small are the shapes; SHORT=32000
# and LONG=128000 the lengths of documents, MILLION=1000000 the longest, MANY=1000 the most documents;
# WINDOW=4096 tokens of a window. ROUNDS=2; NEW=64 tokens of an answer. FOLDER is where stores go.
# PYTHON is the interpreter, python3 by default. What `python3 -m benchmarks.gpu` needs is told in
# benchmarks/evaluate_gpu.sh, and tokenizers; first tokens over Redis want redis-server.
# All on small shapes, to try it out:
#
#   OUT=/tmp/tried LARGE=tiny LARGER=tiny LITTLE=tiny CHECKED=tiny SHORT=600 LONG=1200 MILLION=4000 \
#       MANY=10 WINDOW=256 ROUNDS=1 NEW=8 bash benchmarks/gpu_all.sh
set -uo pipefail
: "${OUT:?is not set; expected a directory for the results}"
OUT=$(realpath -m "$OUT")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

python=${PYTHON:-python3}
large=${LARGE:-qwen2.5-3b} larger=${LARGER:-llama-3.1-8b}
little=${LITTLE:-qwen2.5-0.5b} checked=${CHECKED:-small}
short=${SHORT:-32000} long=${LONG:-128000} million=${MILLION:-1000000} many=${MANY:-1000}
window=${WINDOW:-4096} rounds=${ROUNDS:-2} new=${NEW:-64} end=${SECONDS_LEFT:-0}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
mkdir -p "$OUT"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
results=$made/performance-gpu
mkdir -p "$results/logs"
failed=0

# measure NAME SECONDS OPTIONS...: one process of benchmarks.gpu, ended behind so many seconds
measure() {
    local name=$1 limit=$2 started=$SECONDS code=0
    shift 2
    if ((end)); then
        ((limit = limit < end - SECONDS ? limit : end - SECONDS))
        if ((limit < 15)); then
            echo "== $name: left out, no time is left"
            failed=1
            return
        fi
    fi
    timeout --kill-after=20 "$limit" "$python" -m benchmarks.gpu --json "$results" \
        ${FOLDER:+--folder "$FOLDER"} --rounds "$rounds" --new-tokens "$new" "$@" \
        >"$results/logs/$name.md" 2>"$results/logs/$name.log" || code=$?
    echo "== $name: $((SECONDS - started)) s, exit $code"
    if ((code)); then
        failed=1
        tail -n 4 "$results/logs/$name.log"
    fi
    tar -czf "$OUT/performance-gpu.tar.gz.new" -C "$made" performance-gpu
    mv "$OUT/performance-gpu.tar.gz.new" "$OUT/performance-gpu.tar.gz"
}

for part in ${*:-check replayed plain profile encode at-once million growth llama expandable}; do
    case $part in
    check)
        measure replays 120 --shape "$checked" --part replays --tokens 6000 --dtype float32
        measure check 60 --shape "$checked" --part check --tokens 6000 --dtype float32
        ;;
    replayed) # with captured passes (decision 9)
        measure replayed 240 --shape "$large" --window "$window" --replays \
            --part first-token peak --tokens "$short" "$long"
        measure replayed-decode 60 --shape "$large" --window "$window" --replays \
            --part decode --tokens "$short"
        ;;
    plain)
        measure plain 240 --shape "$large" --window "$window" \
            --part first-token peak --tokens "$short" "$long"
        measure plain-decode 60 --shape "$large" --window "$window" --part decode --tokens "$short"
        ;;
    profile)
        measure profile-replayed 60 --shape "$large" --window "$window" --replays \
            --part profile --tokens "$short"
        measure profile 100 --shape "$large" --window "$window" \
            --part profile --tokens "$short" "$long"
        ;;
    encode)
        measure encode 90 --shape "$large" --window "$window" --part encode --tokens "$short"
        ;;
    at-once)
        measure at-once 150 --shape "$large" --window "$window" --replays \
            --part at-once --tokens "$short" --rounds 1 --new-tokens $((new < 32 ? new : 32))
        ;;
    million)
        measure million 150 --shape "$large" --window "$window" --part million --tokens "$million" \
            --interval 64
        ;;
    growth)
        measure growth 150 --shape "$little" --window "$window" --part length --tokens "$million"
        measure growth-documents 120 --shape "$little" --window "$window" --part documents \
            --tokens "$short" --documents "$many"
        ;;
    llama)
        measure llama 150 --shape "$larger" --window "$window" --replays \
            --part first-token encode peak --tokens "$short"
        measure llama-long 300 --shape "$larger" --window "$window" --replays \
            --part first-token peak --tokens "$long"
        ;;
    expandable)
        PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True measure replays-expandable 120 \
            --shape "$checked" --part replays --tokens 2000 --dtype float32
        ;;
    *)
        echo "part is '$part'; expected check, replayed, plain, profile, encode, at-once, million," \
            "growth, llama or expandable" >&2
        exit 2
        ;;
    esac
done
echo "all of it took $SECONDS s"
exit "$failed"
