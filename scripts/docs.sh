#!/usr/bin/env bash
# Writes the pages that are made from the code: docs/settings.md and docs/api/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

cd "$repository"
settings="$("$venv_python" -m official_nasfpn settings)"
printf '%s\n' "$settings" > docs/settings.md
"$venv_python" -m scripts.api_pages
