"""The launcher that runs workers on an existing Ray cluster.

Each worker has an actor that holds its place on a node (`ray_actor.py`). Ray finds the place and
reports lost actors. When an actor is lost, this launcher queues its trial at once and starts a new
actor with a new name. Ray does not restart actors itself, because it reports an actor that cannot
be reached now in the same way as one that is gone. A new name makes clear which actor holds a
trial, and the store counts no late result twice.
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
from official_nasfpn.printable import printable
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers import ray_actor
from official_nasfpn.search.workers.launcher import hint_of, worker_environment
from official_nasfpn.search.workers.stop_signals import EXIT_STOPPED
from official_nasfpn.search.workers.trial_worker import (
  EXIT_LOST_TRIAL,
  EXIT_REPLACE_ME,
  EXIT_SEARCH_BROKEN,
  EXIT_STORAGE,
)

# How often the nodes of the cluster are listed.
_LOOK_SECONDS = 2.0
# If every worker exits this many times in a row without a trial, the search stops.
_MAX_FRUITLESS_ENDS = 3
_LONGEST_PAUSE_SECONDS = 60.0
_STOP_SECONDS = 10.0
_CONNECT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class WorkerResources:
  """The resources of a node that one worker takes, in Ray's units.

  Attributes:
    cpus: number of CPUs; rounded down, also the number of the worker's threads.
    gpus: number of GPUs; a fraction if workers share a GPU.
    custom: amounts of other resources by name, such as `TPU`.
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
  """One worker of the pool; if its actor is lost, a new one takes its place."""

  worker: str = ""
  actor: object = None
  # Resolves when the actor has its place on a node.
  host: object = None
  # Resolves when the worker has ended.
  end: object = None
  fruitless_ends: int = 0
  start_at: float = 0.0


class RayLauncher:
  """Runs as many workers as fit on the nodes of a Ray cluster, as nodes come and go."""

  def __init__(
    self,
    store: TrialStore,
    search_dir: Path,
    arguments: Sequence[str],
    address: str | None = None,
    num_workers: int | None = None,
    resources: WorkerResources | None = None,
  ):
    """Connects to the cluster, and queues the trials of an earlier, killed search's actors.

    Args:
      store: trial store of the search.
      search_dir: directory for the last output of workers that failed.
      arguments: arguments of Python that start a worker on any node; `--worker_id` and
        `--parent_pid` are added.
      address: address of the cluster's head node, `HOST:PORT`. Default: the environment variable
        RAY_ADDRESS, or the cluster that this machine is a node of.
      num_workers: largest number of workers. Workers without a place wait for one, which makes an
        autoscaling cluster grow. Default: as many as fit on the present nodes.
      resources: resources of each worker; one CPU by default.

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
    self._has_hinted = False
    namespace = f"nasfpn {socket.gethostname()} {search_dir.resolve()}"
    self._ray = _connect(address, namespace)
    self._job = int.from_bytes(
      bytes.fromhex(self._ray.get_runtime_context().get_job_id()), byteorder="little"
    )
    self._end_earlier_actors()

  def poll(self, unfinished_trials: int) -> None:
    """Queues the trials of lost workers, and starts workers while trials are left.

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
    """Makes the pool as large as the cluster and the unfinished trials allow."""
    nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
    room = sum(self._resources.room(node) for node in nodes)
    if self._has_room and room == 0:
      self._say(
        f"No node of the cluster has room for a worker ({self._resources}): waiting for one to "
        "join."
      )
    self._has_room = room > 0
    wanted = min(room if self._num_workers is None else self._num_workers, unfinished_trials)
    # Running workers are not stopped: if their node has left, Ray reports each lost actor.
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
    # Only the password of this store's address; a node's own PGPASSWORD must not be used.
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
    """Handles the end of a worker, or of its actor."""
    try:
      code, last_lines = self._ray.get(slot.end)
    except self._ray.exceptions.RayError as error:
      self._on_loss(slot, error)
      return
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    # A worker that ends properly holds no trial. If it holds one, it died while it ran that trial.
    is_death = code != EXIT_STORAGE
    released = self._store.release(slot.worker, f"worker died ({how})", is_death)
    if released and not self._has_hinted and (hint := hint_of(how)):
      self._has_hinted = True
      self._say(f"{slot.worker} died ({how}) and is replaced; its trial is tried again. {hint}")
    is_planned = code in (EXIT_REPLACE_ME, EXIT_LOST_TRIAL, *EXIT_STOPPED)
    if not is_planned:
      self._write_last_lines(slot.worker, how, last_lines)
    if code == EXIT_SEARCH_BROKEN:
      output = "\n".join(f"  {line}" for line in last_lines)
      raise UserError(f"{slot.worker} cannot work. Its last output:\n{output}")
    if is_planned or (released and is_death):
      slot.fruitless_ends = 0
      slot.end = slot.actor.run.remote()
    else:
      self._on_fruitless_end(slot, how, last_lines)

  def _on_loss(self, slot: _Slot, error: Exception) -> None:
    """Handles an actor that is gone or cannot be reached; a lost node is not the trial's fault."""
    lost_node = (
      isinstance(error, self._ray.exceptions.ActorUnavailableError)
      or getattr(error, "preempted", False)
      or "its node has died" in str(error)
    )
    how = "lost its node" if lost_node else "died (its actor was killed)"
    released = self._store.release(slot.worker, f"worker {how}", is_death=not lost_node)
    # A worker whose actor was stopped politely has handed its trial back.
    if released or lost_node or self._store.has_worked(slot.worker):
      self._discard(slot)
    else:
      self._on_fruitless_end(slot, "its actor died", str(error).splitlines()[-5:])

  def _on_fruitless_end(self, slot: _Slot, how: str, last_lines: Sequence[str]) -> None:
    """Starts the worker again later, on any node.

    Raises:
      UserError: every worker that has had a place keeps ending in this way.
    """
    slot.fruitless_ends += 1
    output = "\n".join(f"  {line}" for line in last_lines)
    end = f"{slot.worker} on {self._host(slot)} ended without finishing a trial ({how}):\n{output}"
    self._discard(slot)
    tried = [slot for slot in self._slots if slot.fruitless_ends or self._has_place(slot)]
    if all(slot.fruitless_ends >= _MAX_FRUITLESS_ENDS for slot in tried):
      raise UserError(f"Every worker ends {_MAX_FRUITLESS_ENDS} times in a row. The last, {end}")
    if slot.fruitless_ends == _MAX_FRUITLESS_ENDS:
      self._say(f"{end}\nOther workers continue; this one is tried again from time to time.")
    pause = min(2.0**slot.fruitless_ends, _LONGEST_PAUSE_SECONDS)
    slot.start_at = time.monotonic() + pause

  def _discard(self, slot: _Slot) -> None:
    """Kills an actor and forgets it; an actor that only seemed to be dead is then dead, too."""
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

  def _write_last_lines(self, worker: str, how: str, last_lines: Sequence[str]) -> None:
    path = storage.worker_log(self._search_dir, worker)
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as log:
      log.write("\n".join((*last_lines, f"ended with {how}", "")))

  def _end_earlier_actors(self) -> None:
    """Kills actors that an earlier controller of this search left; Ray may not have done so yet."""
    for name in self._ray.util.list_named_actors():
      with contextlib.suppress(ValueError, self._ray.exceptions.RayError):
        self._ray.kill(self._ray.get_actor(name))
    for worker in self._store.running_workers():
      # Workers with other names were started by hand, and continue.
      if worker.startswith("ray-"):
        self._store.release(worker, "the search was stopped", is_death=False)

  def _say(self, line: str) -> None:
    # Through tqdm, so that the line does not run into the progress bar.
    tqdm.write(printable(line), file=sys.stderr)


def require_ray() -> None:
  """Raises a `UserError` if Ray is not installed."""
  require("--launcher ray", "ray")


def _connect(address: str | None, namespace: str) -> ModuleType:
  """Returns the module `ray`, connected to a running cluster; never starts one.

  Args:
    address: address of the cluster, `HOST:PORT`; None for RAY_ADDRESS or this machine's cluster.
    namespace: namespace of the search's actors.

  Raises:
    UserError: Ray is not installed, or no cluster answers.
  """
  # Ray reads both variables at import. Without the second, its C++ part may warn every second.
  os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
  os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
  require_ray()
  import ray

  address = address or os.environ.get("RAY_ADDRESS") or "auto"
  if address == "local":
    raise UserError("--ray_address: name a running cluster (HOST:PORT), or leave the flag out.")
  _check_that_it_listens(address)
  # The actor's class is sent by value: importing our modules would cost each actor 70 MB.
  ray.cloudpickle.register_pickle_by_value(ray_actor)
  try:
    ray.init(
      address,
      namespace=namespace,
      # The nodes run the controller's code, whatever version they have installed.
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
  """Raises a `UserError` if nothing listens at an address; Ray itself would try for minutes."""
  host, _, port = address.rpartition(":")
  if host and port.isdigit():
    try:
      socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
      raise _cannot_join(address, error) from error


def _cannot_join(address: str, error: Exception) -> UserError:
  reason = str(error).strip().partition("\n")[0].partition(". ")[0]
  return UserError(
    f"No Ray cluster could be joined at {address} ({reason}). Check that it runs, that this "
    "machine is one of its nodes, and that RAY_AUTH_MODE and RAY_AUTH_TOKEN (or "
    "RAY_AUTH_TOKEN_PATH) are set here as they were when its nodes were started."
  )
