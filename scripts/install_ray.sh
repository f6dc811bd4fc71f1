#!/usr/bin/env bash
# Adds Ray to .venv, which `--launcher ray` needs. Run it again after requirements.lock has changed:
# .venv is made anew then, without Ray.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

"$venv_python" -m pip install --quiet "${pip_options[@]}" -r "$repository/requirements-ray.lock"
