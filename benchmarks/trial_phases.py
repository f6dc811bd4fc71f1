"""Measures where the seconds of a search's trials go, from the claim to the reward.

    python -m benchmarks.trial_phases --gin_file gin/bccd_search.gin --data_dir data/bccd

Trains the architectures in one process with one thread, as a worker of a search on a processor
does, and looks every few milliseconds what it is at. The first trial also starts what later ones
find. Prints one JSON object.
"""

import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program

flags.DEFINE_multi_string("gin_file", None, "The recipe of a search.", required=True)
flags.DEFINE_multi_string("gin_param", [], "A single binding.")
flags.DEFINE_string("data_dir", None, "Prepared data with a holdout part.", required=True)
flags.DEFINE_integer("num_trials", 3, "Architectures to train, drawn at random.", lower_bound=1)

FLAGS = flags.FLAGS

_SECONDS_BETWEEN_LOOKS = 0.02
# The innermost function of a stack that is listed here says what is being done.
_PHASES = {
  "build_detector": "building the detector",
  "trace_function": "tracing",
  "call_preflattened": "running the graphs",
  "train_dataset": "making the input",
  "_warm_up": "the shared weights",
  "evaluate_detections": "COCO's metrics",
  "compile": "starting TensorFlow",
  "exec_module": "imports",
}


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
  from official_nasfpn.search.proxy.proxy_task import make_evaluate
  from official_nasfpn.search.recipe import read_recipe
  from official_nasfpn.search.workers.evaluation import NullProgress

  where = f"Input.data_dir = {str(Path(FLAGS.data_dir).resolve())!r}"
  recipe = read_recipe(FLAGS.gin_file, [*FLAGS.gin_param, where])
  rng = random.Random(0)
  with tempfile.TemporaryDirectory() as folder:
    evaluate = make_evaluate(recipe, Path(folder))
    trials = []
    for number in range(FLAGS.num_trials):
      trial_dir = Path(folder) / str(number)
      trial_dir.mkdir()
      spec = recipe.space.sample(rng)
      watch = _Watch()
      processor = time.process_time()
      found = evaluate(spec, trial_dir, NullProgress())
      trials.append(
        {
          "reward": found.reward,
          "processor seconds": time.process_time() - processor,
          "peak memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
          **watch.stop(),
        }
      )
      print(json.dumps(trials[-1]), file=sys.stderr)
  print(json.dumps(trials, indent=2))


class _Watch:
  """Looks at the main thread again and again, and counts what it is at."""

  def __init__(self):
    self._counts: Counter[str] = Counter()
    self._begin = time.perf_counter()
    self._stopped = threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()

  def stop(self) -> dict[str, object]:
    """Returns the seconds since the start, whole and by phase."""
    seconds = time.perf_counter() - self._begin
    self._stopped.set()
    self._thread.join()
    looks = sum(self._counts.values())
    phases = {name: round(seconds * count / looks, 2) for name, count in self._counts.most_common()}
    return {"seconds": round(seconds, 1), "phases": phases}

  def _look(self) -> None:
    main = threading.main_thread().ident
    while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
      frame = sys._current_frames()[main]
      names = []
      while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
      found = [_PHASES[name] for name in names if name in _PHASES]
      self._counts[found[0] if found else "other Python"] += 1


if __name__ == "__main__":
  run_program(main)
