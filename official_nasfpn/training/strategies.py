"""Where a training runs: one device, several of one machine, several machines, or a TPU."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from official_nasfpn.errors import UserError
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.training.config import TrainingConfig

if TYPE_CHECKING:  # Who the chief is can be told without TensorFlow.
  import tensorflow as tf

_BATCHES_ON_DEVICE = 2

STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored", "tpu")


def check_strategy(name: str, tpu: str | None = None) -> None:
  """Raises what `build_strategy` would, without importing TensorFlow.

  Args:
    name: one of `STRATEGIES`.
    tpu: name or address of the TPU, or `local`.

  Raises:
    UserError: the name is unknown, or what the strategy needs is missing.
  """
  if name not in STRATEGIES:
    raise UserError(f"Unknown --distribution_strategy {name!r}; choose one of {STRATEGIES}.")
  if name == "multi_worker_mirrored" and "TF_CONFIG" not in os.environ:
    raise UserError(
      "--distribution_strategy=multi_worker_mirrored reads the cluster from the environment "
      "variable TF_CONFIG, which is not set."
    )
  if name == "tpu" and not tpu:
    raise UserError("--distribution_strategy=tpu needs --tpu: its name, address or `local`.")
  if tpu and name != "tpu":
    raise UserError(f"--tpu={tpu} needs --distribution_strategy=tpu, which is {name}.")


def build_strategy(name: str, tpu: str | None = None) -> tf.distribute.Strategy:
  """Returns the distribution strategy of that name.

  Args:
    name: one of `STRATEGIES`. `mirrored` uses all GPUs, or all logical CPU devices where there is
      no GPU. `multi_worker_mirrored` reads the cluster from the environment variable TF_CONFIG.
    tpu: name or address of the TPU; `local` on a TPU VM.

  Raises:
    UserError: the name is unknown, or what the strategy needs is missing.
  """
  check_strategy(name, tpu)
  warn_of_an_unused_gpu()
  import tensorflow as tf
  from official.common import distribute_utils

  # Asked for its logical devices TensorFlow would start, and refuse to join a cluster then.
  num_gpus = len(tf.config.list_physical_devices("GPU"))
  if name == "one_device":
    return distribute_utils.get_distribution_strategy(name, num_gpus=min(num_gpus, 1))
  if name == "mirrored":
    if num_gpus:
      return distribute_utils.get_distribution_strategy(name, num_gpus=num_gpus)
    # Model Garden's function knows one CPU device only. Collective reduction is for GPUs: on CPUs,
    # a second strategy in one process collides with the first.
    return tf.distribute.MirroredStrategy(
      [device.name for device in tf.config.list_logical_devices("CPU")],
      cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
  if name == "multi_worker_mirrored":
    return distribute_utils.get_distribution_strategy(name, num_gpus=num_gpus)
  return distribute_utils.get_distribution_strategy(name, tpu_address=tpu)


def check_batches(
  config: TrainingConfig,
  strategy: tf.distribute.Strategy,
  trains: bool = True,
  evaluates: bool = True,
) -> None:
  """Refuses batches that the devices cannot share evenly.

  Args:
    config: says how large they are.
    strategy: from `build_strategy`.
    trains: whether the devices train.
    evaluates: whether they evaluate.

  Raises:
    UserError: says which number would do.
  """
  num_devices = strategy.num_replicas_in_sync
  batch_size = config.batch_size
  if trains and batch_size % (num_devices * config.micro_batches):
    parts = f", each in {config.micro_batches} micro-batches" if config.micro_batches > 1 else ""
    unit = num_devices * config.micro_batches
    _refuse_batch("batch_size", batch_size, num_devices, parts, max(batch_size // unit, 1) * unit)
  if evaluates and config.evaluation_batch_size % num_devices:
    size = config.evaluation_batch_size
    fitting = -(-size // num_devices) * num_devices
    _refuse_batch("evaluation_batch_size", size, num_devices, "", fitting)


def _refuse_batch(name: str, size: int, num_devices: int, parts: str, fitting: int) -> NoReturn:
  setting = f"Training.{name}"
  raise UserError(
    f"{setting} = {size} images cannot be shared evenly by {num_devices} devices{parts}. Take "
    f'--gin_param "{setting} = {fitting}", or another number of devices.'
  )


def distribute_batches(
  strategy: tf.distribute.Strategy, build: Callable[..., tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
  """Returns batches for each replica.

  Args:
    strategy: the replicas.
    build: returns global batches; takes as `input_context` the share of them that a host reads.
  """
  import orbit
  import tensorflow as tf

  one_device = isinstance(strategy, tf.distribute.OneDeviceStrategy)
  if one_device and "CPU" in strategy.extended.worker_devices[0]:
    # There is nothing to bring them to, and the iterator that would do it has a thread that is
    # waited for at its end, as `without_autotuning` says.
    return build()
  # Two batches wait on each device: the next step must not wait for a copy.
  options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=_BATCHES_ON_DEVICE)
  return orbit.utils.make_distributed_dataset(strategy, build, input_options=options)


def is_chief() -> bool:
  """Returns whether this process is the one of a cluster that writes results."""
  task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
  return task.get("type", "chief") == "chief" or (
    task.get("index") == 0 and "chief" not in json.loads(os.environ["TF_CONFIG"])["cluster"]
  )
