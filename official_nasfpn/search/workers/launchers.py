"""The launcher that the flags of a search name."""

import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from official_nasfpn.errors import UserError
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

LAUNCHERS = ("local", "ray", "none")

MakeLauncher = Callable[[TrialStore], Launcher]


@dataclasses.dataclass(frozen=True)
class LauncherFlags:
  """What the flags of a search say about its workers; None where a flag was not given.

  Attributes:
    launcher: one of `LAUNCHERS`.
    num_workers: at the same time.
    ray_address: of a Ray cluster.
    worker_cpus: that one worker takes of the cluster.
    worker_gpus: likewise.
    worker_resources: likewise, any others, each as `NAME=AMOUNT`.
  """

  launcher: Literal["local", "ray", "none"] = "local"
  num_workers: int | None = None
  ray_address: str | None = None
  worker_cpus: float | None = None
  worker_gpus: float | None = None
  worker_resources: Sequence[str] = ()


def launcher_maker(
  flags: LauncherFlags,
  search_dir: Path,
  worker_flags: Sequence[str],
  program: Sequence[str] = ("-m", "official_nasfpn.worker"),
) -> MakeLauncher:
  """Returns what makes the launcher, given the trial store.

  Args:
    flags: of the search.
    search_dir: of the search.
    worker_flags: of a worker that finds the search from wherever it runs.
    program: arguments of Python, before those flags, that start a worker.

  Raises:
    UserError: the flags do not go together, or the launcher needs what is not installed.
  """
  _refuse_flags_of_other_launchers(flags)
  if flags.launcher == "ray":
    resources = WorkerResources(
      cpus=1.0 if flags.worker_cpus is None else flags.worker_cpus,
      gpus=flags.worker_gpus or 0.0,
      custom=dict(map(_parse_resource, flags.worker_resources)),
    )
    require_ray()
    return functools.partial(
      RayLauncher,
      search_dir=search_dir,
      arguments=[*program, *worker_flags],
      address=flags.ray_address,
      num_workers=flags.num_workers,
      resources=resources,
    )
  if flags.launcher == "none":
    return functools.partial(NoLauncher, command=shlex.join(["nasfpn", "worker", *worker_flags]))
  return functools.partial(
    LocalLauncher,
    search_dir=search_dir,
    command=[sys.executable, *program, *worker_flags],
    num_workers=flags.num_workers or 1,
  )


def worker_flags(launcher: str, search_dir: Path, store: str | None) -> list[str]:
  """Returns the flags by which a worker finds the trials; no password is ever among them.

  Args:
    launcher: one of `LAUNCHERS`.
    search_dir: of the search.
    store: the database that a person has given; None for what the directory says.

  Raises:
    UserError: one of the two names no database.
  """
  directory = f"--search_dir={search_dir.resolve()}"
  if store is not None:
    # Elsewhere there may be no search directory.
    elsewhere = [] if launcher != "local" else [directory]
    return [*elsewhere, f"--store={_shown(parse_server(store))}"]
  place = storage.new_store_place(search_dir)
  if launcher == "ray" and not isinstance(place, Path):
    # Not named by a person: `RayLauncher` passes no password on.
    return [f"--store={_shown(place)}"]
  return [directory]


def _shown(url: sa.URL) -> str:
  return without_password(url.set(drivername="postgresql"))


def _refuse_flags_of_other_launchers(flags: LauncherFlags) -> None:
  if flags.launcher != "ray":
    for name in ("ray_address", "worker_cpus", "worker_gpus", "worker_resources"):
      if getattr(flags, name) not in (None, ()):
        flag = name.removesuffix("s") if name == "worker_resources" else name
        raise UserError(f"--{flag} needs --launcher=ray.")
  if flags.launcher == "none" and flags.num_workers is not None:
    raise UserError("--num_workers: --launcher=none starts no workers.")


def _parse_resource(text: str) -> tuple[str, float]:
  name, _, amount = text.partition("=")
  try:
    parsed = float(amount)
  except ValueError:
    parsed = 0.0
  if not name or not 0 < parsed < float("inf"):
    raise UserError(f"--worker_resource={text}: write NAME=AMOUNT, such as TPU=1.")
  if name in ("CPU", "GPU"):
    raise UserError(f"--worker_resource={text}: write --worker_{name.lower()}s={amount}.")
  return name, parsed
