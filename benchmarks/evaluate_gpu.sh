#!/usr/bin/env bash
# Measures all methods on one GPU in some minutes: raw JSON, answers and pictures under $OUT.
#
#   DATA=dev-sets MODEL=model-directory ADAPTER=adapter-directory OUT=results \
#       bash benchmarks/evaluate_gpu.sh [squad] [sets] [lengths] [times] [auto] [prompts]
#
# DATA holds squad-dev.jsonl.gz and the other sets that `plan` names below.
# MODEL is a directory in Hugging Face's layout that holds the demo model; left out, the installed
# one is taken. ADAPTER left out takes the one that ships. SENTENCES is a directory with MiniLM; left
# out, the installed package's. DEVICE and DTYPE are those of `acre eval`, found out where left out.
# SCALE=0.1 asks a tenth of the questions; METHODS="acre full" measures these alone;
# TUNED="run/full/adapter run/rag/adapter" adds what `acre train baseline` made.
# AT_ONCE runs share the GPU, one by default: more keep it busier. Each then has its share of the
# memory, and batches that are smaller by as much.
# PYTHON is the interpreter, python3 by default; OMP_NUM_THREADS the threads of each run, 4.
# Times to the first token are taken at the end, by one run alone. Not among the default
# parts: `auto` measures that budget against fixed ones, `prompts` what the baselines answer best to.
# Beyond torch and transformers it takes: safetensors, numpy, xxhash, msgpack, filelock,
# platformdirs, typer, bm25s; matplotlib for pictures, rouge-score (with nltk, absl-py, six) for
# long answers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${DATA:?is not set; expected the directory of the dev sets}"
: "${OUT:?is not set; expected a directory for the results}"
python=${PYTHON:-python3}
scale=${SCALE:-1}
at_once=${AT_ONCE:-1}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}

if [[ -n ${MODEL:-} ]]; then
    # Under its own name the demo model has calibrated heads, and the adapter that ships.
    ACRE_CACHE=$(mktemp -d)
    export ACRE_CACHE
    mkdir -p "$ACRE_CACHE/models"
    ln -s "$(realpath "$MODEL")" "$ACRE_CACHE/models/smollm2-135m-instruct"
fi
mkdir -p "$OUT"
shared=(${ADAPTER:+--adapter "$ADAPTER"} ${SENTENCES:+--sentence-model "$SENTENCES"})
shared+=(${DEVICE:+--device "$DEVICE"} ${DTYPE:+--dtype "$DTYPE"})
[[ -n ${METHODS:-} ]] && shared+=(--methods "$METHODS")
for directory in ${TUNED:-}; do shared+=(--tuned "$directory"); done
begin='from acre_rag.cli import main; main()'
if ((at_once > 1)); then
    shared+=(--batch-tokens $((131072 / at_once)))
    begin="import torch; torch.cuda.set_per_process_memory_fraction(0.95 / $at_once); $begin"
fi

jobs=()
# plan NAME DATASET QUESTIONS OPTIONS...: one run, named by its results
plan() {
    local name=$1 dataset=$2 questions
    questions=$("$python" -c "print(max(int($3 * $scale), 2))")
    shift 3
    jobs+=("$(printf '%q ' "$name" "$DATA/$dataset" --limit "$questions" "$@" "${shared[@]}")")
}

run() {
    local name=$1 started=$SECONDS
    shift
    if "$python" -c "$begin" eval "$@" --json "$OUT/$name.json" \
        --rows "$OUT/$name.rows.jsonl" >"$OUT/$name.txt" 2>"$OUT/$name.log"; then
        echo "== $name, $((SECONDS - started)) s"
        cat "$OUT/$name.txt"
    else
        echo "== $name FAILED: $(tail -n 1 "$OUT/$name.log")"
    fi
}

# wait_for FEWER: until fewer runs than that are left
wait_for() {
    while (($(jobs -rp | wc -l) >= $1)); do wait -n || true; done
}

parts="${*:-squad sets lengths times}"
for part in $parts; do
    case $part in
    lengths)
        # The same questions at every length: their gold lies within the first 4,096 tokens.
        for tokens in 50000 16000 4096; do
            plan "squad-same-$tokens" squad-dev.jsonl.gz 300 --budget 512 --timed 0 \
                --max-document-tokens "$tokens" --questions-within 4096 --questions-per-document 20
        done
        plan squad-1000 squad-dev.jsonl.gz 300 --budget 256 --timed 0 --max-document-tokens 1000
        ;;
    squad)
        plan squad-4096 squad-dev.jsonl.gz 600 --budget 128 --budget 256 --budget 512 --budget auto \
            --timed 0 \
            --picture "$OUT/squad-4096.png"
        ;;
    sets)
        plan qmsum-16384 qmsum-val.jsonl.gz 150 --budget 512 --budget 1024 --budget auto --timed 0 \
            --max-document-tokens 16384 --max-new-tokens 128
        plan kv-4096 kv-retrieval-75.jsonl.gz 60 --budget 256 --budget 512 --timed 0 \
            --max-new-tokens 48
        plan hotpotqa-4096 hotpotqa-100.jsonl.gz 100 --budget 256 --budget 512 --timed 0
        plan covidqa-4096 covidqa-dev.jsonl.gz 300 --budget 256 --budget 512 --timed 0
        plan leval-4096 leval-scientific.jsonl.gz 150 --budget 256 --budget 512 --timed 0
        plan fairytaleqa-4096 fairytaleqa-val.jsonl.gz 300 --budget 256 --budget 512 --timed 0
        ;;
    auto)
        # The budget that a question finds itself, where one detail is wanted, and where much is.
        fixed=(--budget 128 --budget 256 --budget 512 --budget 1024 --budget 2048)
        plan auto-squad squad-dev.jsonl.gz 300 --methods acre "${fixed[@]}" --budget auto --timed 0
        plan auto-qmsum qmsum-val.jsonl.gz 150 --methods acre "${fixed[@]}" --budget auto \
            --timed 0 --max-document-tokens 16384 --max-new-tokens 128
        ;;
    prompts)
        # What the baselines answer best to; all methods are then asked with the same.
        number=0
        for words in "Answer with a short phrase from the context." \
            "Answer in a few words." "Give only the answer, copied from the context." \
            "Reply with the exact words of the context that answer the question, nothing else."; do
            number=$((number + 1))
            METHODS="" plan "prompt-$number" squad-dev.jsonl.gz 300 --budget 256 --timed 0 \
                --methods full,rag-bm25,rag-dense --instructions "$words"
        done
        ;;
    times) ;;
    *)
        echo "part is '$part'; expected squad, sets, lengths, times, auto or prompts" >&2
        exit 2
        ;;
    esac
done

for job in "${jobs[@]}"; do
    wait_for "$at_once"
    eval "run $job" &
done
wait_for 1
if [[ " $parts " == *" times "* ]]; then
    jobs=()
    plan times-4096 squad-dev.jsonl.gz 8 --questions-per-document 8 --budget 256
    eval "run ${jobs[0]}"
fi
echo "all of it took $SECONDS s"
