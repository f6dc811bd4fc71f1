"""The main job in one command: prepare, search, train, evaluate, export, detect.

    nasfpn quickstart [--output_dir DIR] [--annotations FILE_OR_FOLDER] [--images DIR]

Every step is what one of the project's programs does, and leaves a file that shows it is done: the
same command resumes what was interrupted and repeats nothing. All but the search's workers run in
this process, because every start of TensorFlow takes seconds; but latency is timed in another one.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from absl import flags

from official_nasfpn import folders
from official_nasfpn.architecture import resolve_architecture
from official_nasfpn.data.foreign_formats import refuse_foreign_images
from official_nasfpn.data.formats.reading import FORMATS, recognize
from official_nasfpn.data.formats.source import read_source
from official_nasfpn.data.report import Report
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.disk import FileLock, write_text
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.installation import ONEDNN_VARIABLE, use_onednn
from official_nasfpn.json_text import parse_json
from official_nasfpn.progress import duration, progress_bar
from official_nasfpn.recipes import recipes_folder
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.training.backbone_source import whole_path
from official_nasfpn.training.checkpoint_files import refuse_pattern
from official_nasfpn.training.experiment import Experiment, settle_backbone

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", "runs/quickstart", "Where everything is written.")
flags.DEFINE_string(
  "annotations",
  None,
  "Annotations of your own images, a file or a folder in any format that `nasfpn prepare` takes; "
  "default: drawn shapes.",
)
flags.DEFINE_string(
  "images", None, "Folder with the images of --annotations, where they do not lie beside them."
)
flags.DEFINE_enum(
  "format",
  None,
  list(FORMATS),
  "Format of --annotations; default: told by what is there.",
  # Whoever imports several programs, as the tests do, has a flag of this name already.
  allow_override=True,
)
flags.DEFINE_string(
  "backbone_weights",
  None,
  "What the backbone of search and training starts from: a file of weights, or `imagenet`. Sets "
  "Training.backbone_weights; `nasfpn weights` lists what can be had.",
)
flags.DEFINE_integer("seed", 0, "Seed of the data's split, the search and the training.")
flags.DEFINE_multi_string(
  "gin_param", [], "Binding for the search and the training, such as `Training.epochs = 40`."
)

_NUM_WORKERS = 2
_NUM_PICTURES = 12
# Of detections that are drawn: after so short a training weaker ones are mostly wrong.
_SCORE_THRESHOLD = 0.5


@dataclass(frozen=True)
class Paths:
  """The files of one quickstart."""

  output_dir: Path

  @property
  def data(self) -> Path:
    return self.output_dir / "data"

  @property
  def search(self) -> Path:
    return self.output_dir / "search"

  @property
  def run(self) -> Path:
    return self.output_dir / "run"

  @property
  def saved_model(self) -> Path:
    return self.output_dir / "saved_model"

  @property
  def detections(self) -> Path:
    return self.output_dir / "detections"

  @property
  def pictures(self) -> Path:
    return self.output_dir / "pictures.jpg"

  @property
  def summary(self) -> Path:
    return self.output_dir / "summary.json"


@dataclass(frozen=True)
class Request:
  """What was asked for; an output directory answers one request."""

  annotations: str | None
  images: str | None
  seed: int
  gin_param: list[str]
  backbone_weights: str | None = None
  format: str | None = None


@dataclass(frozen=True)
class Step:
  """One step of the job, and the file that shows it has finished."""

  title: str
  run: Callable[[], None]
  done: Path


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  start = time.monotonic()
  request = _request()
  paths = Paths(Path(FLAGS.output_dir).resolve())
  refuse_pattern(paths.run, "--output_dir")
  steps = _steps(request, paths)
  recipe = _search_recipe(request, paths)  # What is wrong is said before anything is made.
  # The search's workers have the environment of this process.
  is_as_served = recipe.times_tensorflow or not use_onednn()
  if request.backbone_weights and not (paths.search / "result.json").is_file():
    _check_weights(recipe.experiment)
  if request.annotations and not (paths.data / "dataset.json").is_file():
    # Refused here, because a folder that is claimed belongs to one request for good.
    read_source(request.annotations, request.images, None, None, request.format, Report())
  with _claimed(paths.output_dir, request):
    for number, step in enumerate(steps, start=1):
      _run(step, f"[{number}/{len(steps) + 1}]")
    measuring = f"[{len(steps) + 1}/{len(steps) + 1}] Measure"
    if paths.summary.is_file():
      print(f"{measuring}: done before")
    else:
      print(measuring, flush=True)
      write_text(paths.summary, json.dumps(_measure(paths, is_as_served), indent=2) + "\n")
  _show(_read_json(paths.summary), paths)
  print(f"\nDone in {duration(time.monotonic() - start)}.")


def _request() -> Request:
  """Reads the flags, and refuses what cannot work before anything is started."""
  for flag in ("images", "format"):
    if FLAGS[flag].value and not FLAGS.annotations:
      raise UserError(f"--{flag} needs --annotations.")
  weights = FLAGS.backbone_weights and whole_path(FLAGS.backbone_weights)
  others = FLAGS.seed, list(FLAGS.gin_param), weights
  if not FLAGS.annotations:
    return Request(None, None, *others)
  annotations = Path(FLAGS.annotations).resolve()
  images = str(Path(FLAGS.images).resolve()) if FLAGS.images else None
  if "://" not in FLAGS.annotations and not annotations.exists():
    raise UserError(f"--annotations: there is no file {annotations}.")
  if FLAGS.images:
    refuse_foreign_images("images", FLAGS.images)
  if "://" in FLAGS.annotations:
    raise UserError(f"{FLAGS.annotations} is an address; download it and give the file.")
  if not FLAGS.format:
    recognize(annotations)
  return Request(str(annotations), images, *others, FLAGS.format)


def _check_weights(experiment: Experiment) -> None:
  from official_nasfpn.training.backbone_weights import check_backbone_weights

  experiment = settle_backbone(experiment)
  assert experiment.training.backbone_weights is not None
  check_backbone_weights(experiment.detector, experiment.training.backbone_weights)


def _steps(request: Request, paths: Paths) -> list[Step]:
  return [
    Step("Prepare the data", lambda: _prepare(request, paths), paths.data / "dataset.json"),
    Step("Search the pyramid", lambda: _search(request, paths), paths.search / "result.json"),
    Step(
      "Train and evaluate the architecture that was found",
      lambda: _train(request, paths),
      paths.run / "evaluation.json",
    ),
    Step("Export", lambda: _export(paths), paths.saved_model / "1" / "saved_model.pb"),
    Step(
      "Detect in the validation images",
      lambda: _detect(request, paths),
      paths.detections / "detections.json",
    ),
  ]


def _run(step: Step, number: str) -> None:
  if step.done.is_file():
    print(f"{number} {step.title}: done before", flush=True)
    return
  print(f"{number} {step.title}", flush=True)
  try:
    step.run()
  except UserError as error:
    raise UserError(f"{error} Once that is mended, the same command goes on from there.") from error


def _prepare(request: Request, paths: Paths) -> None:
  from official_nasfpn.data.dataset_info import DatasetInfo
  from official_nasfpn.data.preparation import prepare_dataset
  from official_nasfpn.data.report import parts_table, report_table

  prepared = prepare_dataset(
    paths.data,
    request.annotations,
    request.images,
    format=request.format,
    shapes=None if request.annotations else ShapesConfig(),
    seed=request.seed,
  )
  print(report_table(prepared.report))
  print(parts_table(DatasetInfo.load(prepared.folder)))


def _search(request: Request, paths: Paths) -> None:
  from official_nasfpn.data.dataset_info import DatasetInfo
  from official_nasfpn.search.search import Search
  from official_nasfpn.training.coco_evaluation import require_defined

  recipe = _search_recipe(request, paths)
  # The training would refuse it, too, but only after the search.
  require_defined(recipe.experiment.training.best_metric, DatasetInfo.load(paths.data), "val")
  search = Search(paths.search, recipe)
  search.run(workers=_NUM_WORKERS)
  print(search.table())


def _train(request: Request, paths: Paths) -> None:
  from official_nasfpn.training.training import train_detector

  run = train_detector(_final_experiment(request, paths), paths.run)
  assert run.evaluation is not None
  print(run.evaluation.table())


def _export(paths: Paths) -> None:
  from official_nasfpn.serving.export.export_detector import export_detector

  export = export_detector(paths.run, paths.saved_model)
  print(f"Exported to {export.path}, {export.num_bytes / 1e6:.1f} MB.")


def _detect(request: Request, paths: Paths) -> None:
  from official_nasfpn.data.dataset_info import DatasetInfo
  from official_nasfpn.serving.detect.detection_folder import DetectionRequest
  from official_nasfpn.serving.detect.detection_run import run_detection
  from official_nasfpn.serving.detect.image_files import find_files

  images = DatasetInfo.load(paths.data).images_dir("val")
  summary = run_detection(
    DetectionRequest(
      export_dir=paths.saved_model,
      images=tuple(find_files([str(images)], excluding=paths.detections)),
      score_threshold=_SCORE_THRESHOLD,
      annotations=paths.data / "val.json",
      compare=True,
    ),
    paths.detections,
  )
  print(f"{summary.num_drawn} boxes in {summary.num_images} images: {paths.detections}")


def _search_recipe(request: Request, paths: Paths) -> SearchRecipe:
  photographs = ["quickstart_photographs.gin"] if request.annotations else []
  weights = request.backbone_weights
  files = ["quickstart_search.gin", *photographs, *(["quickstart_weights.gin"] if weights else [])]
  bindings = [
    f"Input.data_dir = {str(paths.data)!r}",
    f"Training.seed = {request.seed}",
    f"Search.seed = {request.seed}",
    *([f"Training.backbone_weights = {weights!r}"] if weights else []),
  ]
  return read_recipe([recipes_folder() / file for file in files], [*bindings, *request.gin_param])


def _final_experiment(request: Request, paths: Paths) -> Experiment:
  """Returns the experiment of the search, whose recipe includes that of the training."""
  experiment = _search_recipe(request, paths).experiment
  training = replace(experiment.training, start_from=str(paths.search.resolve()))
  spec = resolve_architecture(paths.search / "best_architecture.gin")
  return replace(experiment, training=training).with_architecture(spec)


def _measure(paths: Paths, is_as_served: bool) -> dict:
  """Collects every figure of the table, measures the export's latency, joins some pictures.

  Args:
    paths: of everything.
    is_as_served: whether TensorFlow computes here as where it only detects.
  """
  from official_nasfpn.data.drawing import contact_sheet
  from official_nasfpn.data.image_headers import open_image
  from official_nasfpn.modeling.closed_form import detector_size
  from official_nasfpn.modeling.layer_sizes import Size
  from official_nasfpn.serving.detectors.latency import measure_latency
  from official_nasfpn.training.run_folder import RunFolder

  search = _read_json(paths.search / "result.json")
  evaluation = _read_json(paths.run / "evaluation.json")
  shown = _read_json(paths.detections / "images.json")["images"][:_NUM_PICTURES]
  with progress_bar(3, "measure", "part") as bar:
    experiment, label_map = RunFolder(paths.run).load()
    parts = detector_size(experiment.detector, label_map.num_classes)
    total = sum(parts.values(), Size())
    bar.update()
    timed = paths.saved_model, [row["file"] for row in shown]
    latency = measure_latency(*timed) if is_as_served else _without_onednn(measure_latency, *timed)
    bar.update()
    pictures = [open_image((paths.detections / row["picture"]).read_bytes()) for row in shown]
    contact_sheet(pictures, columns=2, cell_width=960).save(paths.pictures, quality=92)
    bar.update()
  return {
    "best_architecture": search["architecture_hash"],
    "trial": search["trial"],
    "reward": search["reward"],
    "AP": evaluation["metrics"]["AP"],
    "AP50": evaluation["metrics"]["AP50"],
    "parameters": total.parameters,
    "multiply_adds": total.multiply_adds,
    "latency_ms": latency["median_ms"],
    "search": search,
    "evaluation": evaluation,
    "evaluation_of_saved_model": _read_json(paths.detections / "evaluation.json"),
    "size_by_part": {part: asdict(size) for part, size in parts.items()},
    "latency": latency,
  }


def _without_onednn(function: Callable[..., Any], *arguments: object) -> Any:
  """Returns the result of a function in a new process, where TensorFlow has its own defaults.

  What makes trainings faster makes single images slower, and holds for a whole process.
  """
  context = multiprocessing.get_context("spawn")
  with ProcessPoolExecutor(1, context, _unset, (ONEDNN_VARIABLE,)) as pool:
    return pool.submit(function, *arguments).result()


def _unset(variable: str) -> None:
  del os.environ[variable]


def _show(summary: dict, paths: Paths) -> None:
  def figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"

  found_nothing = summary["reward"] <= 0
  rows = [
    (
      "architecture" if found_nothing else "best architecture",
      f"{summary['best_architecture']} (trial {summary['trial']})",
    ),
    ("reward, AP of its trial", figure(summary["reward"])),
    ("AP", figure(summary["AP"])),
    ("AP50", figure(summary["AP50"])),
    ("parameters", f"{summary['parameters'] / 1e6:.2f} M"),
    ("multiply-adds", f"{summary['multiply_adds'] / 1e9:.2f} B"),
    ("latency of one image", f"{summary['latency_ms']:.0f} ms"),
  ]
  files = [
    ("annotated and detected", paths.pictures),
    ("all of them", paths.detections),
    ("the found pyramid", paths.search / "best_architecture.png"),
    ("its gin file", paths.search / "best_architecture.gin"),
    ("the reward curve", paths.search / "reward_curve.png"),
    ("the SavedModel", paths.saved_model),
    ("every figure", paths.summary),
  ]
  print()
  for name, value in rows:
    print(f"  {name:<24} {value}")
  print("\nLook at")
  for name, path in files:
    print(f"  {name:<24} {path}")
  if found_nothing:
    from official_nasfpn.search.report.found import NOTHING_LEARNT

    print(f"\n{NOTHING_LEARNT}")


@contextmanager
def _claimed(output_dir: Path, request: Request):
  """Claims `output_dir` for a request, and keeps others out of it while the block runs."""
  text = json.dumps(asdict(request), indent=2) + "\n"
  if not folders.claim(output_dir, "quickstart.json", text, "quickstart", "--output_dir"):
    stored = _read_json(output_dir / "quickstart.json")
    for name, value in asdict(request).items():
      if stored.get(name) != value:
        raise UserError(
          f"{output_dir} belongs to a quickstart with --{name}={stored.get(name)}, not {value}. "
          "Give --output_dir a new folder."
        )
  lock = FileLock(output_dir / "quickstart.lock")
  if not lock.acquire():
    raise UserError(f"Another quickstart is at work in {output_dir}.")
  try:
    yield
  finally:
    lock.release()


def _read_json(path: Path):
  return parse_json(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
  run_program(main)
