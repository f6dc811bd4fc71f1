# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv hold exactly what requirements.lock pins, and this
# checkout, so that the command nasfpn is there; sets $repository and $venv_python. Where there is an
# NVIDIA driver, .venv also gets CUDA's libraries, which requirements-cuda.lock pins; NASFPN_CUDA=0
# leaves them out, and NASFPN_CUDA=1 takes them on any machine.
#
# .venv/lock serialises calls at the same time, and marks a folder that these scripts may empty.
# .venv/installed says what is installed. It is written last, so that an interrupted installation
# is none, and the next call starts it afresh. .venv/project says the same of this checkout.

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$repository/.venv"
venv_python="$venv/bin/python"
install_log="$venv/install.log"

# Neither the packages of this user nor those of another project may shadow the pinned ones.
export PYTHONNOUSERSITE=1
unset PYTHONPATH PYTHONHOME

# How pip installs a lock.
pip_options=(--require-hashes --no-deps --no-build-isolation --no-user --no-input
  --disable-pip-version-check --progress-bar off)
# Run by root, pip does not notice that its cache is read-only, and fails.
if [[ ! -w "${HOME:-/}" ]]; then
  pip_options+=(--no-cache-dir)
fi

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Prints the version of a Python, like 3.11. Fails where it does not run or is not supported.
python_version() {
  "$1" -c 'import sys
print("%d.%d" % sys.version_info[:2])
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null
}

# Prints the Python to build .venv with: $PYTHON if it is set, else the first that is supported.
find_python() {
  local candidate candidates=(python3.11 python3.12 python3.13 python3.10 python3)
  if [[ -n "${PYTHON:-}" ]]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    if python_version "$candidate" > /dev/null; then
      echo "$candidate"
      return
    fi
  done
  if [[ -n "${PYTHON:-}" ]]; then
    fail "PYTHON=$PYTHON is not a Python 3.10, 3.11, 3.12 or 3.13 that runs."
  fi
  fail "No Python 3.10, 3.11, 3.12 or 3.13 found. Install one (sudo apt install python3" \
    "python3-venv) or name one (PYTHON=/path/to/python $0)."
}

# Whether CUDA's libraries belong into .venv. Linux on Windows has the driver in another place.
wants_cuda() {
  case "${NASFPN_CUDA:-}" in
    0) return 1 ;;
    1) ;;
    *) [[ -e /proc/driver/nvidia/version || -e /usr/lib/wsl/lib/libcuda.so.1 ]] ;;
  esac
}

# What .venv/installed says of an environment that is up to date, built with the Python $1.
fingerprint() {
  sha256sum < "$repository/requirements.lock"
  if wants_cuda; then
    sha256sum < "$repository/requirements-cuda.lock"
  fi
  python_version "$1"
}

is_up_to_date() {
  python_version "$venv_python" > /dev/null &&
    [[ "$(cat "$venv/installed" 2> /dev/null)" == "$(fingerprint "${PYTHON:-$venv_python}")" ]]
}

# Creates .venv with the Python $1 and installs the lock.
create_environment() {
  local pip=("$venv_python" -m pip)
  if "$1" -c "from ensurepip import version"; then
    "$1" -m venv "$venv" || return
  else
    # Debian splits ensurepip off into python3-venv. Any other pip can stand in for it, and if there
    # is none, that of a package which can be fetched without being root.
    "$1" -m venv --without-pip "$venv" || return
    if "$1" -m pip --version; then
      pip=("$1" -m pip --python "$venv_python")
    else
      (cd "$venv/tmp" && apt-get download python3-pip-whl && dpkg-deb -x ./*.deb .) || return
      pip=("$venv_python" "$(echo "$venv"/tmp/usr/share/python-wheels/pip-*.whl)/pip")
    fi
  fi
  # The pinned pip first, with the build tools of the two packages that exist as sources only:
  # pip would fetch these tools without regard to the lock.
  local tools="packaging|pip|setuptools|setuptools-scm|tomli|typing-extensions|vcs-versioning|wheel"
  awk "/^[a-z]/ { keep = /^($tools)==/ } keep" "$repository/requirements.lock" \
    > "$venv/tmp/tools.txt"
  "${pip[@]}" install "${pip_options[@]}" -r "$venv/tmp/tools.txt" &&
    "$venv_python" -m pip install "${pip_options[@]}" -r "$repository/requirements.lock" || return
  if wants_cuda; then
    "$venv_python" -m pip install "${pip_options[@]}" -r "$repository/requirements-cuda.lock"
  fi
}

# Shows the newest line of the log and the seconds gone, for as long as this script runs.
show_progress() {
  while sleep 1 && kill -0 $$ 2> /dev/null; do
    printf '\r\033[K  %d s  %s' "$SECONDS" "$(tail -n 1 "$install_log" | cut -c 1-70)" >&2
  done
}

install() {
  local python="$1" expected progress="" status=0
  expected="$(fingerprint "$python")"
  if ! "$python" -c "import venv" 2> /dev/null; then
    fail "$python can create no virtual environment: it has no module venv. Install it:" \
      "sudo apt install python$(python_version "$python")-venv"
  fi
  echo "Installing the pinned packages into $venv (about 3 minutes, 3.7 GB) ..." >&2
  if wants_cuda; then
    echo "There is an NVIDIA driver: CUDA's libraries, several GB more, are installed, too." >&2
  fi
  (cd "$venv" && find . -mindepth 1 ! -path ./lock -delete)
  # Packages of 600 MB pass through here: /tmp may be too small for them.
  mkdir "$venv/tmp"
  if [[ -t 2 ]]; then
    show_progress 9>&- &
    progress=$!
  fi
  TMPDIR="$venv/tmp" create_environment "$python" &> "$install_log" || status=$?
  if [[ -n "$progress" ]]; then
    kill "$progress"
    wait "$progress" || true
    printf '\r\033[K' >&2
  fi
  if [[ $status -ne 0 ]]; then
    tail -n 15 "$install_log" >&2
    if [[ ! -x "$venv/bin/pip" ]]; then
      echo "There may be no pip to install with: sudo apt install" \
        "python$(python_version "$python")-venv" >&2
    fi
    fail "The installation failed; the whole log is $install_log. The next call starts it again."
  fi
  rm -r "$venv/tmp"
  echo "$expected" > "$venv/installed"
}

# What .venv/project says where this checkout is installed: it may have been moved, or its command
# lines and version changed.
project_fingerprint() {
  echo "$repository"
  cat "$repository/pyproject.toml" "$repository/official_nasfpn/__init__.py" | sha256sum
}

has_project() {
  [[ "$(cat "$venv/project" 2> /dev/null)" == "$(project_fingerprint)" ]]
}

# Installs this checkout as it is: what is changed in it needs no other installation.
install_project() {
  if ! "$venv_python" -m pip install --no-deps --no-build-isolation --no-index --no-input \
    --disable-pip-version-check --editable "$repository" &>> "$install_log"; then
    tail -n 15 "$install_log" >&2
    fail "This checkout could not be installed into $venv; the whole log is $install_log."
  fi
  project_fingerprint > "$venv/project"
}

ensure_environment() {
  local python
  if is_up_to_date && has_project; then
    return
  fi
  python="$(find_python)"
  mkdir -p "$venv"
  # In this order: another call may create the lock in between.
  if [[ -n "$(ls -A "$venv")" && ! -e "$venv/lock" ]]; then
    fail "$venv holds something that these scripts did not make. Move it away and try again."
  fi
  exec 9>> "$venv/lock"
  if ! flock --nonblock 9; then
    echo "Waiting for another installation into $venv to end ..." >&2
    flock 9
  fi
  if ! is_up_to_date; then
    install "$python"
  fi
  if ! has_project; then
    install_project
  fi
  # What the caller starts must not hold the lock.
  exec 9>&-
}

ensure_environment
