"""The examples for Slurm and Kubernetes, run with a worker that records its arguments."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from official_nasfpn.search.workers.trial_worker import EXIT_LOST_TRIAL, EXIT_REPLACE_ME

ROOT = Path(__file__).parents[3]
SLURM = ROOT / "scripts" / "slurm_workers.sbatch"
KUBERNETES = ROOT / "scripts" / "kubernetes_workers.yaml"
STORE_URL = "postgresql://me@host/a search"

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")


@pytest.fixture
def clone(tmp_path) -> Path:
  """Returns a folder whose worker succeeds, then loses its trial, then cannot start."""
  python = tmp_path / "a clone" / ".venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  ends = f"{EXIT_REPLACE_ME} {EXIT_LOST_TRIAL} 1"
  python.write_text(
    "#!/bin/sh\nprintf '%s|' \"$@\" >> calls\necho >> calls\n"
    f"set -- {ends}\nshift $(( $(wc -l < calls) - 1 ))\nexit $1\n"
  )
  python.chmod(0o755)
  return tmp_path / "a clone"


def slurm(clone: Path) -> subprocess.CompletedProcess:
  return _run(["bash", str(SLURM)], clone, SLURM_SUBMIT_DIR=str(clone), SLURM_CPUS_PER_TASK="4")


def kubernetes(clone: Path) -> subprocess.CompletedProcess:
  container = _container()
  return _run([*container["command"], *container["args"]], clone)


@pytest.mark.parametrize("run", [slurm, kubernetes])
def test_workers_are_replaced_until_one_fails(run, clone):
  assert run(clone).returncode == 1
  call = f"-m|official_nasfpn.worker|--store|{STORE_URL}|"
  assert (clone / "calls").read_text().splitlines() == [call] * 3


def test_without_a_store_slurm_workers_say_what_is_missing(clone):
  environment = {name: value for name, value in os.environ.items() if name != "STORE_URL"}
  process = subprocess.run(
    ["bash", SLURM], cwd=clone, env=environment, capture_output=True, text=True, check=False
  )
  assert process.returncode != 0
  assert "export STORE_URL=postgresql://" in process.stderr


def test_a_password_comes_from_a_secret():
  environment = {variable["name"]: variable for variable in _container()["env"]}
  assert "password" not in environment["STORE_URL"]["value"]
  assert environment["PGPASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "nasfpn-store"


def test_both_call_the_worker_with_flags_that_it_has(run_program):
  printed = run_program("worker", "--help").stdout
  assert "--store:" in printed


def _container() -> dict:
  (job,) = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
  assert job["kind"] == "Job"
  (container,) = job["spec"]["template"]["spec"]["containers"]
  return container


def _run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess:
  environment = {**os.environ, "STORE_URL": STORE_URL, **variables}
  return subprocess.run(
    command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
  )
