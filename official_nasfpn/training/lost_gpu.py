"""A GPU that fails while a program computes on it, as one that has fallen off the bus."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from official_nasfpn.errors import UserError

# CUDA's and its libraries' codes. A batch that does not fit has one, too, and is no failure of the
# GPU; where kernels fail TensorFlow often aborts the process instead.
_FAILURE = re.compile(
  r"CUDA_ERROR_(?!OUT_OF_MEMORY)\w+|CU(DNN|BLAS|SOLVER)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)"
  r"|GPU sync failed"
)


class GpuLost(UserError):
  """A GPU failed. This process cannot use it any more, another one perhaps can."""


@contextlib.contextmanager
def gpu_errors(advice: str) -> Iterator[None]:
  """Turns what TensorFlow raises within the block for a GPU that fails into `GpuLost`.

  Args:
    advice: one sentence: what became of the work so far, and what to do.
  """
  try:
    yield
  except tf.errors.OpError as error:
    failure = _FAILURE.search(str(error))
    if failure is None:
      raise
    raise GpuLost(
      f"The GPU failed while it computed ({failure[0]}). {advice} If it fails again, `nvidia-smi` "
      "and the system's log (`dmesg`, lines with Xid) say whether the card or its driver is broken."
    ) from error
