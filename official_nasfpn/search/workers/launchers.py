"""The table of launchers, and how flags choose one."""

import dataclasses
import functools
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.search import storage
from official_nasfpn.search.store.address import parse_server, without_password
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.launcher import Launcher
from official_nasfpn.search.workers.local_launcher import LocalLauncher
from official_nasfpn.search.workers.no_launcher import NoLauncher
from official_nasfpn.search.workers.ray_launcher import (
  RayLauncher,
  WorkerResources,
  require_ray,
)

MakeLauncher = Callable[[TrialStore], Launcher]


@dataclasses.dataclass(frozen=True)
class LauncherConfig:
  """How the workers of a search are started and kept running. None means the launcher's default.

  Attributes:
    launcher: one of `LAUNCHERS`: `local` for this machine, `ray` for a Ray cluster, or `none` if a
      batch system or a person starts workers.
    num_workers: number of workers that run at the same time. Default: one on this machine; on a
      cluster, as many as fit.
    ray_address: address of the Ray cluster, `HOST:PORT`.
    worker_cpus: CPUs of the cluster per worker.
    worker_gpus: GPUs of the cluster per worker; may be a fraction.
    worker_resources: other resources of the cluster per worker, each as `NAME=AMOUNT`.
  """

  launcher: str = "local"
  num_workers: int | None = None
  ray_address: str | None = None
  worker_cpus: float | None = None
  worker_gpus: float | None = None
  worker_resources: Sequence[str] = ()


def launcher_maker(
  config: LauncherConfig,
  search_dir: Path,
  worker_flags: Sequence[str],
  program: Sequence[str] = ("-m", "official_nasfpn.worker"),
) -> MakeLauncher:
  """Returns a function that makes the launcher, given the trial store.

  Args:
    config: name and settings of the launcher.
    search_dir: directory of the search.
    worker_flags: flags with which a worker finds the search, from `worker_flags`.
    program: arguments of Python that start a worker, before its flags.

  Raises:
    UserError: there is no such launcher, its settings contradict each other, or a package that it
      needs is not installed.
  """
  if config.launcher not in LAUNCHERS:
    nearest = nearest_name(config.launcher, LAUNCHERS)
    raise UserError(f"There is no launcher {config.launcher!r}. Did you mean {nearest!r}?")
  _refuse_too_little(config)
  if config.launcher != "ray":
    _refuse_settings_of_ray(config)
  return LAUNCHERS[config.launcher](config, search_dir, [*program], [*worker_flags])


def _local(
  config: LauncherConfig, search_dir: Path, program: list[str], worker_flags: list[str]
) -> MakeLauncher:
  return functools.partial(
    LocalLauncher,
    search_dir=search_dir,
    command=[sys.executable, *program, *worker_flags],
    num_workers=1 if config.num_workers is None else config.num_workers,
  )


def _ray(
  config: LauncherConfig, search_dir: Path, program: list[str], worker_flags: list[str]
) -> MakeLauncher:
  resources = WorkerResources(
    cpus=1.0 if config.worker_cpus is None else config.worker_cpus,
    gpus=config.worker_gpus or 0.0,
    custom=dict(map(_parse_resource, config.worker_resources)),
  )
  require_ray()
  return functools.partial(
    RayLauncher,
    search_dir=search_dir,
    arguments=[*program, *worker_flags],
    address=config.ray_address,
    num_workers=config.num_workers,
    resources=resources,
  )


def _none(
  config: LauncherConfig, search_dir: Path, program: list[str], worker_flags: list[str]
) -> MakeLauncher:
  del search_dir, program
  if config.num_workers is not None:
    raise UserError("--num_workers: --launcher=none starts no workers.")
  return functools.partial(NoLauncher, command=shlex.join(["nasfpn", "worker", *worker_flags]))


# Each function takes the configuration, the search directory, the arguments of Python that start a
# worker on this machine, and the flags of a worker on any machine.
LAUNCHERS: dict[str, Callable[[LauncherConfig, Path, list[str], list[str]], MakeLauncher]] = {
  "local": _local,
  "ray": _ray,
  "none": _none,
}


def worker_flags(launcher: str, search_dir: Path, store: str | None) -> list[str]:
  """Returns the flags with which a worker finds the trials; they never contain a password.

  Args:
    launcher: one of `LAUNCHERS`.
    search_dir: directory of the search.
    store: URL of the database, if a person has given it; None if the directory names it.

  Raises:
    UserError: `store` is no PostgreSQL URL, or the directory names no database that can be used.
  """
  directory = f"--search_dir={search_dir.resolve()}"
  if store is not None:
    # Other machines may have no search directory.
    elsewhere = [] if launcher != "local" else [directory]
    return [*elsewhere, f"--store={_shown(parse_server(store))}"]
  place = storage.new_store_place(search_dir)
  if launcher == "ray" and not isinstance(place, Path):
    # No person has named this address, so `RayLauncher` passes no password on.
    return [f"--store={_shown(place)}"]
  return [directory]


def _shown(url: sa.URL) -> str:
  return without_password(url.set(drivername="postgresql"))


def _refuse_too_little(config: LauncherConfig) -> None:
  # As the flags of `nasfpn search` do. With less the search would wait for ever.
  for name, value, least in (
    ("num_workers", config.num_workers, 1),
    ("worker_cpus", config.worker_cpus, 0.1),
    ("worker_gpus", config.worker_gpus, 0),
  ):
    if value is not None and not least <= value < math.inf:
      raise UserError(f"{name} is {value}; it must be at least {least}.")


def _refuse_settings_of_ray(config: LauncherConfig) -> None:
  for name in ("ray_address", "worker_cpus", "worker_gpus", "worker_resources"):
    if getattr(config, name) not in (None, ()):
      flag = name.removesuffix("s") if name == "worker_resources" else name
      raise UserError(f"--{flag} needs --launcher=ray.")


def _parse_resource(text: str) -> tuple[str, float]:
  name, _, amount = text.partition("=")
  try:
    parsed = float(amount)
  except ValueError:
    parsed = 0.0
  if not name or not 0 < parsed < float("inf"):
    raise UserError(f"--worker_resource={text}: write NAME=AMOUNT, for example TPU=1.")
  if name in ("CPU", "GPU"):
    raise UserError(f"--worker_resource={text}: write --worker_{name.lower()}s={amount}.")
  return name, parsed
