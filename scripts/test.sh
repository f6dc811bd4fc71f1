#!/usr/bin/env bash
# Runs the tests, three files at a time, as many of them wait for something:
#   scripts/test.sh [--all] [pytest arguments, with paths relative to the repository]
# Without arguments it checks style and types first and then runs all of them but a few that need
# minutes each, which --all adds.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

cd "$repository"

leave_out=(-m "not minutes")
if [[ "${1:-}" == --all ]]; then
  shift
  leave_out=()
fi
if [[ $# -eq 0 ]]; then
  "$venv_python" -m ruff check
  "$venv_python" -m ruff format --check
  "$venv_python" -m mypy
  set -- "${leave_out[@]}"
fi

# In the order of tests/conftest.py, which begins with what takes long.
workers=(-n 3 --dist loadfile --no-loadscope-reorder)
for argument in "$@"; do
  case "$argument" in
    # A debugger needs the terminal, which workers do not have.
    -n* | --numprocesses* | --pdb | --trace) workers=() ;;
  esac
done
exec "$venv_python" -m pytest "${workers[@]}" "$@"
