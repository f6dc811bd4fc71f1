"""Keeps workers running on a Ray cluster that exists already.

An actor for each worker takes the place on a node (`ray_actor.py`). Ray finds the place, and says
when an actor is lost; what becomes of it is decided here: the trial is taken back at once, and a
new actor with a new name takes the old one's part. Actors are not restarted by Ray, because Ray
reports one that cannot be reached as it reports one that will never be: a new name leaves no doubt
who holds a trial, and the store sees to it that a late result is not counted twice.
"""

import contextlib
import dataclasses
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

import official_nasfpn
from official_nasfpn.errors import UserError
from official_nasfpn.installation import require
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers import ray_actor
from official_nasfpn.search.workers.trial_worker import (
  EXIT_LOST_TRIAL,
  EXIT_REPLACE_ME,
  EXIT_STORAGE,
)
from official_nasfpn.search.workers.worker_environment import worker_environment

# How often the cluster is asked which nodes it has.
_LOOK_SECONDS = 2.0
# So many ends of each worker in a row without a trial say that the next will end in the same way.
_MAX_FRUITLESS_ENDS = 3
_LONGEST_PAUSE_SECONDS = 60.0
_STOP_SECONDS = 10.0
_CONNECT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class WorkerResources:
  """What one worker takes of a node, in Ray's units.

  Attributes:
    cpus: also the number of its threads, rounded down.
    gpus: may be a fraction, when workers share a GPU.
    custom: any others by name, such as `TPU`.
  """

  cpus: float = 1.0
  gpus: float = 0.0
  custom: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def room(self, node: Mapping[str, float]) -> int:
    """Returns how many workers fit on a node with these resources."""
    needs = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
    return min(int(node.get(name, 0.0) / amount + 1e-6) for name, amount in needs.items() if amount)

  def __str__(self) -> str:
    needs = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
    return ", ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount)


@dataclasses.dataclass
class _Slot:
  """The part of one worker, played by one actor after the other."""

  worker: str = ""
  actor: object = None
  # Answers when the actor has its place; the other, when its worker has ended.
  host: object = None
  end: object = None
  fruitless_ends: int = 0
  start_at: float = 0.0


class RayLauncher:
  """Workers on the nodes of a Ray cluster: as many as fit, as nodes come and go."""

  def __init__(
    self,
    store: TrialStore,
    search_dir: Path,
    arguments: Sequence[str],
    address: str | None = None,
    num_workers: int | None = None,
    resources: WorkerResources | None = None,
  ):
    """Connects to the cluster; takes back the trials of an earlier, killed search's actors.

    Args:
      store: of the search.
      search_dir: where the last words of workers that failed go.
      arguments: of Python; they start a worker on any node. `--worker_id` and `--parent_pid` are
        added.
      address: of the cluster's head, `HOST:PORT`. Default: the variable RAY_ADDRESS, or the
        cluster that this machine is a node of.
      num_workers: at most so many; those that have no place yet wait for one, which makes a
        cluster that can grow do so. Default: as many as fit on the nodes there are.
      resources: that each worker takes; one CPU by default.

    Raises:
      UserError: Ray is not installed, or no cluster answers.
    """
    self._store = store
    self._search_dir = search_dir
    self._arguments = list(arguments)
    self._num_workers = num_workers
    self._resources = resources or WorkerResources()
    self._slots: list[_Slot] = []
    self._actors_made = 0
    self._look_at = 0.0
    self._has_room = True
    namespace = f"nasfpn {socket.gethostname()} {search_dir.resolve()}"
    self._ray = _connect(address, namespace)
    self._job = int.from_bytes(
      bytes.fromhex(self._ray.get_runtime_context().get_job_id()), byteorder="little"
    )
    self._end_earlier_actors()

  def poll(self, unfinished_trials: int) -> None:
    """Takes back what lost workers were running, and starts workers while trials are left.

    Raises:
      UserError: workers cannot start, or cannot write.
    """
    slot_of_end = {slot.end: slot for slot in self._slots if slot.actor is not None}
    if slot_of_end:
      ended, _ = self._ray.wait(list(slot_of_end), num_returns=len(slot_of_end), timeout=0)
      for end in ended:
        self._on_end(slot_of_end[end])
    if time.monotonic() >= self._look_at:
      self._resize(unfinished_trials)
      self._look_at = time.monotonic() + _LOOK_SECONDS

  def close(self) -> None:
    """Stops the workers, whose trials can be claimed again, and leaves the cluster."""
    running = [slot for slot in self._slots if slot.actor is not None]
    with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError):
      for slot in running:
        self._ray.kill(slot.actor)
      ends = [slot.end for slot in running]
      self._ray.wait(ends, num_returns=len(ends), timeout=_STOP_SECONDS) if ends else None
    for slot in running:
      self._store.release(slot.worker, "the search was stopped", is_death=False)
    self._slots = []
    self._ray.shutdown()

  def _resize(self, unfinished_trials: int) -> None:
    """Makes the pool as large as the cluster and the trials left allow."""
    nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
    room = sum(self._resources.room(node) for node in nodes)
    if self._has_room and room == 0:
      self._say(
        f"No node of the cluster has room for a worker ({self._resources}): waiting for one to "
        "join."
      )
    self._has_room = room > 0
    wanted = min(room if self._num_workers is None else self._num_workers, unfinished_trials)
    # A worker at work is not stopped: that its node has left, Ray says for each actor.
    waiting = [slot for slot in self._slots if not self._has_place(slot)]
    for slot in waiting[: max(len(self._slots) - wanted, 0)]:
      self._discard(slot)
      self._slots.remove(slot)
    while len(self._slots) < wanted:
      self._slots.append(_Slot())
    for slot in self._slots:
      if slot.actor is None and time.monotonic() >= slot.start_at:
        self._start(slot)

  def _start(self, slot: _Slot) -> None:
    self._actors_made += 1
    slot.worker = f"ray-{self._job}-{self._actors_made}"
    variables = worker_environment(max(int(self._resources.cpus), 1))
    # The password of this store's address, and of no other that a node may have.
    variables |= {"PGPASSWORD": "", **self._store.environment}
    make_actor = self._ray.remote(ray_actor.WorkerActor).options(
      name=slot.worker,
      num_cpus=self._resources.cpus,
      num_gpus=self._resources.gpus,
      resources=dict(self._resources.custom),
      max_restarts=0,
    )
    slot.actor = make_actor.remote(slot.worker, self._arguments, variables)
    slot.host = slot.actor.host.remote()
    slot.end = slot.actor.run.remote()

  def _on_end(self, slot: _Slot) -> None:
    """Learns that a worker, or the actor with it, is gone."""
    try:
      code, last_lines = self._ray.get(slot.end)
    except self._ray.exceptions.RayError as error:
      self._on_loss(slot, error)
      return
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    # A worker that ends as it should holds no trial, so whatever it holds it has died of.
    is_death = code != EXIT_STORAGE
    released = self._store.release(slot.worker, f"worker died ({how})", is_death)
    if code not in (EXIT_REPLACE_ME, EXIT_LOST_TRIAL):
      self._write_last_words(slot.worker, how, last_lines)
    if code in (EXIT_REPLACE_ME, EXIT_LOST_TRIAL) or (released and is_death):
      slot.fruitless_ends = 0
      slot.end = slot.actor.run.remote()
    else:
      self._on_fruitless_end(slot, how, last_lines)

  def _on_loss(self, slot: _Slot, error: Exception) -> None:
    """Learns that an actor is gone, or cannot be reached, which the trial is not to blame for."""
    lost_node = (
      isinstance(error, self._ray.exceptions.ActorUnavailableError)
      or getattr(error, "preempted", False)
      or "its node has died" in str(error)
    )
    how = "lost its node" if lost_node else "died (its actor was killed)"
    released = self._store.release(slot.worker, f"worker {how}", is_death=not lost_node)
    if released or lost_node:
      self._discard(slot)
    else:
      self._on_fruitless_end(slot, "its actor died", str(error).splitlines()[-5:])

  def _on_fruitless_end(self, slot: _Slot, how: str, last_lines: Sequence[str]) -> None:
    """Tries again later, on any node, unless it is the same with every worker.

    Raises:
      UserError: all workers that have a place end in this way.
    """
    slot.fruitless_ends += 1
    words = "\n".join(f"  {line}" for line in last_lines)
    told = f"{slot.worker} on {self._host(slot)} ended without taking a trial ({how}):\n{words}"
    self._discard(slot)
    tried = [slot for slot in self._slots if slot.fruitless_ends or self._has_place(slot)]
    if all(slot.fruitless_ends >= _MAX_FRUITLESS_ENDS for slot in tried):
      raise UserError(f"Every worker ends {_MAX_FRUITLESS_ENDS} times in a row. The last, {told}")
    if slot.fruitless_ends == _MAX_FRUITLESS_ENDS:
      self._say(f"{told}\nOther workers go on; this one is tried again from time to time.")
    pause = min(2.0**slot.fruitless_ends, _LONGEST_PAUSE_SECONDS)
    slot.start_at = time.monotonic() + pause

  def _discard(self, slot: _Slot) -> None:
    """Lets go of an actor. One that only seemed to be dead is then dead, too."""
    if slot.actor is not None:
      with contextlib.suppress(self._ray.exceptions.RayError):
        self._ray.kill(slot.actor)
    slot.actor = slot.host = slot.end = None

  def _has_place(self, slot: _Slot) -> bool:
    return slot.actor is not None and bool(self._ray.wait([slot.host], timeout=0)[0])

  def _host(self, slot: _Slot) -> str:
    try:
      return self._ray.get(slot.host, timeout=1)
    except self._ray.exceptions.RayError:
      return "an unknown node"

  def _write_last_words(self, worker: str, how: str, last_lines: Sequence[str]) -> None:
    path = storage.worker_log(self._search_dir, worker)
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as log:
      log.write("\n".join((*last_lines, f"ended with {how}", "")))

  def _end_earlier_actors(self) -> None:
    """Ends what an earlier controller of this search left, which Ray ends soon after it anyway."""
    for name in self._ray.util.list_named_actors():
      with contextlib.suppress(ValueError, self._ray.exceptions.RayError):
        self._ray.kill(self._ray.get_actor(name))
    for worker in self._store.running_workers():
      # Others, started by hand, are at work.
      if worker.startswith("ray-"):
        self._store.release(worker, "the search was stopped", is_death=False)

  def _say(self, line: str) -> None:
    # Through tqdm, so that it does not run into the progress bar.
    tqdm.write(line, file=sys.stderr)


def require_ray() -> None:
  """Raises a `UserError` where Ray is not installed."""
  require("--launcher ray", "ray")


def _connect(address: str | None, namespace: str) -> ModuleType:
  """Returns Ray, connected to a cluster; none is ever started."""
  # Read when Ray is imported. Its C++ part would warn once a second instead of giving up.
  os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
  os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
  require_ray()
  import ray

  address = address or os.environ.get("RAY_ADDRESS") or "auto"
  if address == "local":
    raise UserError("--ray_address: name a cluster that is running (HOST:PORT), or leave it out.")
  _check_that_it_listens(address)
  # The actor's class goes to the nodes as it is: our modules would take 70 MB of each actor.
  ray.cloudpickle.register_pickle_by_value(ray_actor)
  try:
    ray.init(
      address,
      namespace=namespace,
      # The nodes run the controller's own code, whatever else they hold.
      runtime_env={"py_modules": [str(Path(official_nasfpn.__file__).parent)]},
      log_to_driver=False,
      logging_level=logging.ERROR,
    )
  except (
    ConnectionError,
    RuntimeError,
    ValueError,
    TimeoutError,
    ray.exceptions.RayError,
  ) as error:
    raise _cannot_join(address, error) from error
  return ray


def _check_that_it_listens(address: str) -> None:
  """Refuses an address where nothing listens; Ray would try for minutes."""
  host, _, port = address.rpartition(":")
  if host and port.isdigit():
    try:
      socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
      raise _cannot_join(address, error) from error


def _cannot_join(address: str, error: Exception) -> UserError:
  reason = str(error).strip().partition("\n")[0].partition(". ")[0]
  return UserError(
    f"No Ray cluster could be joined at {address} ({reason}). See that it runs, that this machine "
    "is one of its nodes, and that RAY_AUTH_MODE and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) are "
    "set here as they were when its nodes were started."
  )
