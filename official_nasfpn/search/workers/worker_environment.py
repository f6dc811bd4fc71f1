"""The environment variables that a worker process gets from whoever starts it."""


def worker_environment(num_threads: int) -> dict[str, str]:
  """Returns what to set for a worker that may use so many threads, beside what is set already."""
  threads = str(num_threads)
  return {
    "TF_NUM_INTRAOP_THREADS": threads,
    "TF_NUM_INTEROP_THREADS": threads,
    "OMP_NUM_THREADS": threads,
    # Workers that share a GPU take the memory that they need, not all of it.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    # glibc's one memory pool per thread costs a worker some 100 MB in holes.
    "MALLOC_ARENA_MAX": "2",
    "PYTHONUNBUFFERED": "1",
  }
