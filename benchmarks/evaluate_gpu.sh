#!/usr/bin/env bash
# Measures all methods on one GPU in some minutes: raw JSON, answers and pictures under $OUT.
#
#   DATA=dev-sets MODEL=model-directory ADAPTER=adapter-directory OUT=results \
#       bash benchmarks/evaluate_gpu.sh [squad] [sets] [lengths]
#
# MODEL is a directory in Hugging Face's layout that holds the demo model; left out, the installed
# one is taken. ADAPTER left out takes the one that ships, where one does. SENTENCES is a directory
# with MiniLM; left out, the installed package's. SCALE=0.1 asks a tenth of the questions.
# Beyond torch and transformers it takes: safetensors, numpy, xxhash, msgpack, filelock,
# platformdirs, typer, bm25s; matplotlib for pictures, rouge-score (with nltk, absl-py, six) for
# long answers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${DATA:?is not set; expected the directory of the dev sets}"
: "${OUT:?is not set; expected a directory for the results}"
python=${PYTHON:-python3}
scale=${SCALE:-1}
at_once=${AT_ONCE:-3} # one run alone keeps a GPU waiting for Python
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

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
with_acre=${ADAPTER:+yes}
[[ -e acre_rag/adapters/smollm2-135m-instruct/acre_config.json ]] && with_acre=yes
some=${with_acre:+acre,oracle,}acre-training-free,full,snapkv,rag-bm25,rag-dense
few=${with_acre:+acre,}acre-training-free,full,rag-bm25

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
    if "$python" -c 'from acre_rag.cli import main; main()' eval "$@" --json "$OUT/$name.json" \
        --rows "$OUT/$name.rows.jsonl" >"$OUT/$name.txt" 2>"$OUT/$name.log"; then
        echo "== $name, $((SECONDS - started)) s"
        cat "$OUT/$name.txt"
    else
        echo "== $name FAILED: $(tail -n 1 "$OUT/$name.log")"
    fi
}

for part in "${@:-squad sets lengths}"; do
    for wanted in $part; do
        case $wanted in
        squad)
            plan squad-4096 squad-dev.jsonl.gz 320 --budget 128 --budget 256 --budget 512
            ;;
        sets)
            plan covidqa-4096 covidqa-dev.jsonl.gz 150 --budget 256 --budget 512 --methods "$some"
            plan fairytaleqa-4096 fairytaleqa-val.jsonl.gz 150 --budget 256 --budget 512 --methods "$some"
            plan leval-4096 leval-scientific.jsonl.gz 100 --budget 256 --budget 512 --methods "$some"
            plan hotpotqa-4096 hotpotqa-100.jsonl.gz 100 --budget 256 --budget 512 --methods "$some"
            plan kv-4096 kv-retrieval-75.jsonl.gz 60 --budget 256 --budget 512 --methods "$some" \
                --max-new-tokens 48
            plan qmsum-16384 qmsum-val.jsonl.gz 60 --budget 512 --budget 1024 --methods "$some" \
                --max-document-tokens 16384 --max-new-tokens 128
            ;;
        lengths)
            plan squad-1000 squad-dev.jsonl.gz 150 --budget 256 --methods "$few" \
                --max-document-tokens 1000
            # The same questions at every length: their gold lies within the first 4,096 tokens.
            for tokens in 4096 16384 50000; do
                plan "squad-same-$tokens" squad-dev.jsonl.gz 150 --budget 512 --methods "$few" \
                    --max-document-tokens "$tokens" --questions-within 4096 \
                    --questions-per-document 10 --timed 4
            done
            ;;
        *)
            echo "part is '$wanted'; expected squad, sets or lengths" >&2
            exit 2
            ;;
        esac
    done
done

started=$SECONDS
for job in "${jobs[@]}"; do
    while (($(jobs -rp | wc -l) >= at_once)); do wait -n || true; done
    eval "run $job" &
done
wait
echo "all of it took $((SECONDS - started)) s"
