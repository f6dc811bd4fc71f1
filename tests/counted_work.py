"""Does what `counts_test.py` counts, in a process in which nothing was traced before.

python -m tests.counted_work RECIPE DATA WORK_DIR prints the counts as JSON.
"""

import collections
import contextlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import tracing_compilation

from official_nasfpn import load_experiment, read_recipe, train_detector
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.proxy.proxy_task import make_evaluate
from official_nasfpn.search.workers.evaluation import NullProgress
from official_nasfpn.training.experiment import open_dataset
from official_nasfpn.training.optimizer import build_optimizer
from official_nasfpn.training.runner import configure_tensorflow
from official_nasfpn.training.task import DetectionTask
from tests.program_process import REPOSITORY

COMPARED_RECIPE = REPOSITORY / "benchmarks" / "peer_comparison" / "r18_3x64.gin"
NUM_TRIALS = 3


@contextlib.contextmanager
def counting_traces() -> Iterator[collections.Counter]:
  """Counts, by name, the Python functions that TensorFlow traces into graphs."""
  counted: collections.Counter = collections.Counter()
  create = tracing_compilation._create_concrete_function

  def create_and_count(function_type, type_context, func_graph, tracing_options):
    counted[tracing_options.name] += 1
    return create(function_type, type_context, func_graph, tracing_options)

  tracing_compilation._create_concrete_function = create_and_count
  try:
    yield counted
  finally:
    tracing_compilation._create_concrete_function = create


def nodes_of_a_train_step(data_dir: str) -> int:
  """Returns the operations in the graph of a train step of the detector of the comparison."""
  experiment, dataset = open_dataset(
    load_experiment([COMPARED_RECIPE], [f"Input.data_dir = {data_dir!r}"])
  )
  configure_tensorflow(experiment.training)
  task = DetectionTask(experiment, dataset)
  model = task.build_model()
  optimizer = build_optimizer(experiment.training, 100, model.trainable_variables)
  metrics = task.build_metrics()
  batch = task.build_inputs().element_spec
  step = tf.function(lambda inputs: task.train_step(inputs, model, optimizer, metrics))
  return len(step.get_concrete_function(batch).graph.get_operations())


def trace_a_run(recipe: Path, work_dir: Path) -> collections.Counter:
  """Returns what is traced by a training that evaluates once on the way and at the end."""
  bindings = ["Training.epochs = 2.0", "Training.evaluation_epochs = 1.0"]
  with counting_traces() as counted:
    train_detector(load_experiment([recipe], bindings), work_dir / "run")
  return counted


def trace_trials(recipe: Path, work_dir: Path, mode: str) -> collections.Counter:
  """Returns what is traced by a search's trials of different architectures, one after another."""
  search = read_recipe([recipe], [f"Proxy.mode = {mode!r}"])
  space, rng = SearchSpace(), random.Random(0)
  folder = work_dir / mode
  folder.mkdir()
  with counting_traces() as counted:
    evaluate = make_evaluate(search, folder)
    for number in range(NUM_TRIALS):
      trial = folder / str(number)
      trial.mkdir()
      evaluate(space.sample(rng), trial, NullProgress())
  return counted


def main() -> None:
  recipe, data_dir, work_dir = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
  traces = {
    "a run": trace_a_run(recipe, work_dir),
    **{
      f"{NUM_TRIALS} {mode} trials": trace_trials(recipe, work_dir, mode)
      for mode in ("plain", "shared")
    },
  }
  print(json.dumps({"traces": traces, "nodes": nodes_of_a_train_step(data_dir)}))


if __name__ == "__main__":
  main()
