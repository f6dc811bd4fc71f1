"""Launchers: the interface between a search and the machines that run its workers."""

from typing import Protocol


class Launcher(Protocol):
  """Keeps the workers of a search running."""

  def poll(self, unfinished_trials: int) -> None:
    """Keeps enough workers running for the unfinished trials; called a few times a second."""
    ...

  def close(self) -> None:
    """Stops every worker that the launcher started."""
    ...


def worker_environment(num_threads: int) -> dict[str, str]:
  """Returns the environment variables that a launcher sets for a worker.

  Args:
    num_threads: number of threads that the worker may use.
  """
  threads = str(num_threads)
  return {
    "TF_NUM_INTRAOP_THREADS": threads,
    "TF_NUM_INTEROP_THREADS": threads,
    "OMP_NUM_THREADS": threads,
    # glibc's memory pools, one per thread, fragment and cost a worker some 100 MB.
    "MALLOC_ARENA_MAX": "2",
    "PYTHONUNBUFFERED": "1",
  }


def hint_of(reason: str) -> str | None:
  """Returns what may be behind the end of a worker, and what to do; None if nobody can tell.

  Args:
    reason: how it ended, or why its trial failed.
  """
  if "signal 9" not in reason:
    return None
  return (
    "If nobody has killed it, the system has, for want of memory: lower Training.batch_size, "
    "Training.evaluation_batch_size, Input.shuffle_buffer or --num_workers, or give workers more "
    "memory."
  )
