#!/usr/bin/env bash
# Writes requirements.lock from requirements.txt: the whole tree with hashes, for Python 3.10 to
# 3.13 on Linux, x86-64 and Arm alike; then, in the same way, the locks of what is optional, which
# keep the versions of that one. Pass --upgrade to take newer versions of what requirements.txt does
# not name; without it the locks change only where they must.
set -euo pipefail

readonly UV_VERSION=0.13.9

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tool="$repository/.venv-lock"
if [[ "$("$tool/bin/uv" --version 2> /dev/null)" != "uv $UV_VERSION"* ]]; then
  rm -rf "$tool"
  "${PYTHON:-python3}" -m venv "$tool"
  "$tool/bin/python" -m pip install --quiet "uv==$UV_VERSION"
fi

# Inside the repository, so that the lock's comments carry a relative path; without the settings
# of this machine, so that no private index finds its way into the lock.
cd "$repository"
lock() {
  local name="$1"
  shift
  env -u UV_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_DEFAULT_INDEX -u UV_FIND_LINKS \
    "$tool/bin/uv" pip compile "$name.txt" --quiet --output-file "$name.lock" \
    --no-config --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
    --custom-compile-command scripts/lock.sh "$@"
  echo "Wrote $name.lock: $(grep -c '^[a-z].*==' "$name.lock") pins."
}

lock requirements "$@"
lock requirements-ray --constraints requirements.lock "$@"
lock requirements-cuda --constraints requirements.lock "$@"
