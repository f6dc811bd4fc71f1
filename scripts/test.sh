#!/usr/bin/env bash
# Runs the tests, two at a time:
#   scripts/test.sh [pytest arguments, with paths relative to the repository]
# Without arguments it checks style first and then runs all of them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

cd "$repository"

if [[ $# -eq 0 ]]; then
  "$venv_python" -m ruff check
  "$venv_python" -m ruff format --check
fi

workers=(-n 2 --dist loadfile)
for argument in "$@"; do
  case "$argument" in
    # A debugger needs the terminal, which workers do not have.
    -n* | --numprocesses* | --pdb | --trace) workers=() ;;
  esac
done
exec "$venv_python" -m pytest "${workers[@]}" "$@"
