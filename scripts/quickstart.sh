#!/usr/bin/env bash
# The main job from beginning to end: search, train, evaluate, export and detect.
#   scripts/quickstart.sh [--output_dir DIR] [--annotations FILE_OR_FOLDER] [--images DIR]
#       [--backbone_weights FILE]
# Without arguments it uses a small dataset that it draws itself.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

# The caller's current folder keeps its meaning for relative paths, and none as a place of code.
export PYTHONPATH="$repository" PYTHONSAFEPATH=1
exec "$venv_python" -m official_nasfpn.quickstart "$@"
