"""The project as others get it: built, installed, and used outside the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import official_nasfpn

ROOT = Path(__file__).parents[1]
# What a release holds: the repository, without what is made in it.
TOP_LEVEL = (
  *(".ci", ".github", "benchmarks", "docs", "gin", "official_nasfpn", "scripts", "tests"),
  *("LICENSE", "MANIFEST.in", "README.md", "WORKSPACE.md", "pyproject.toml", "setup.py"),
  ".pre-commit-config.yaml",
  *("requirements.txt", "requirements.lock", "requirements-ray.txt", "requirements-ray.lock"),
)


def files_in(folder):
  return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run(*command, cwd):
  """Runs a command to its end and returns what it prints; nothing leads back to this checkout."""
  environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
  result = subprocess.run(
    [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
  )
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


def pip(*arguments, cwd, python=sys.executable):
  options = ("--no-input", "--disable-pip-version-check", "--python", python)
  return run(sys.executable, "-m", "pip", *options, *arguments, "--no-deps", "--no-index", cwd=cwd)


def build(kind, project, folder):
  """Builds a project as pip does, with the setuptools that is here; gives the file."""
  code = f"import sys; from setuptools.build_meta import build_{kind}; build_{kind}(sys.argv[1])"
  run(sys.executable, "-c", code, folder, cwd=project)
  (file,) = folder.iterdir()
  return file


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
  """Returns a copy of this checkout in which one can build, on a path with a space."""
  folder = tmp_path_factory.mktemp("a checkout")
  ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
  for name in TOP_LEVEL:
    if (ROOT / name).is_dir():
      shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    else:
      shutil.copy(ROOT / name, folder / name)
  return folder


@pytest.fixture(scope="module")
def source(checkout, tmp_path_factory):
  """Returns the archive of the sources."""
  return build("sdist", checkout, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
  """Returns the wheel, built from that archive as it is from a package registry."""
  folder = tmp_path_factory.mktemp("unpacked")
  shutil.unpack_archive(source, folder)
  (unpacked,) = folder.iterdir()
  return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def make_environment(folder):
  """Makes an environment with all that this one has, but for the project; gives its programs."""
  venv.EnvBuilder(symlinks=True).create(folder)
  (site_packages,) = folder.glob("lib/python*/site-packages")
  return folder / "bin", site_packages


def add_dependencies(site_packages):
  """Shows an environment what is installed here; what is written into it goes first."""
  outer = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
  # What these add to the path themselves, such as a checkout installed as it is, is not read.
  (site_packages / "dependencies.pth").write_text("\n".join(outer))


def test_the_source_archive_holds_the_repository(checkout, source):
  with tarfile.open(source) as archive:
    names = {name.partition("/")[2] for name in archive.getnames()}
  made = {name for name in files_in(checkout) if name.startswith(("build/", "official_nasfpn.egg"))}
  assert files_in(checkout) - made <= names
  assert f"official_nasfpn-{official_nasfpn.__version__}" in source.name


def test_the_wheel_holds_the_package_its_recipes_and_nothing_else(checkout, wheel):
  with zipfile.ZipFile(wheel) as file:
    names = {name for name in file.namelist() if ".dist-info/" not in name}
    metadata = [name for name in file.namelist() if ".dist-info/" in name]
  package = {f"official_nasfpn/{name}" for name in files_in(checkout / "official_nasfpn")}
  recipes = {f"official_nasfpn/gin/{name}" for name in files_in(checkout / "gin")}
  assert names == package | recipes
  # Without it type checkers take an installed package for one without types.
  assert "official_nasfpn/py.typed" in names
  assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_what_an_earlier_build_left_is_not_taken_along(checkout, tmp_path):
  stale = checkout / "build" / "lib" / "official_nasfpn" / "gone.py"
  stale.parent.mkdir(parents=True, exist_ok=True)
  stale.touch()
  with zipfile.ZipFile(build("wheel", checkout, tmp_path)) as wheel:
    assert "official_nasfpn/gone.py" not in wheel.namelist()
    assert "official_nasfpn/gin/bccd_search.gin" in wheel.namelist()


@pytest.mark.slow
def test_an_installed_wheel_prepares_describes_and_trains(wheel, tmp_path):
  programs, site_packages = make_environment(tmp_path / "an environment")
  pip("install", wheel, python=programs / "python", cwd=tmp_path)
  add_dependencies(site_packages)
  folder = tmp_path / "a folder"
  folder.mkdir()

  def nasfpn(*arguments):
    return run(programs / "nasfpn", *arguments, cwd=folder)

  assert nasfpn("--version") == f"nasfpn {official_nasfpn.__version__}\n"
  installed = site_packages / "official_nasfpn"
  assert nasfpn("recipes").endswith(f"They lie in {installed / 'gin'}.\n")
  # The library that reads recipes is not the folder of them.
  code = "import gin, official_nasfpn as o; print(o.__file__, hasattr(gin, 'parse_config'))"
  assert run(programs / "python", "-c", code, cwd=folder) == f"{installed / '__init__.py'} True\n"

  prepared = nasfpn("prepare", "--synthetic", "--num_images=8", "--image_size=64", "--output_dir=d")
  assert f"Prepared: {folder}" in prepared
  described = nasfpn("describe", "--model=R-10, 1 @ 16", "--image_size=128", "--num_classes=3")
  assert "R-10, 1 @ 16 with nas_fpn at 128 x 128 pixels, 3 classes" in described
  settings = (
    "Detector.image_size = (128, 128)",
    "Detector.architecture = 'fpn'",
    "Detector.head_num_convs = 1",
    "Detector.num_filters = 8",
    "Detector.num_repeats = 1",
    "Training.batch_size = 2",
    "Training.images_per_epoch = 2",
    "Training.epochs = 1.0",
  )
  nasfpn(
    "train",
    "--gin_file=gin/quickstart.gin",
    *(f"--gin_param={setting}" for setting in settings),
    "--data_dir=d",
    "--model_dir=run",
    "--mode=train",
  )
  assert [path.name for path in (folder / "run" / "checkpoints").glob("*.index")] == [
    "ckpt-1.index"
  ]


@pytest.mark.slow
def test_a_checkout_can_be_installed_as_it_is(checkout, tmp_path):
  programs, site_packages = make_environment(tmp_path / "environment")
  # Its build needs setuptools, which pip looks for there.
  add_dependencies(site_packages)
  options = ("--no-build-isolation", "--editable", checkout)
  pip("install", *options, python=programs / "python", cwd=tmp_path)
  said = run(programs / "nasfpn", "recipes", cwd=tmp_path)
  assert said.endswith(f"They lie in {checkout / 'gin'}.\n")
  # Other folders of the checkout are not importable, as they are not from a wheel.
  code = "from importlib.util import find_spec; print(find_spec('benchmarks'))"
  assert run(programs / "python", "-c", code, cwd=tmp_path) == "None\n"
