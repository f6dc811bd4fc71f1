"""The scripts and the lock: run for real in a copy of the repository that pins two tiny wheels."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pip
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = sorted([*REPOSITORY.glob("scripts/*.sh"), REPOSITORY / ".ci/run"])
BASH = shutil.which("bash")

PYTEST = "pytest|-n|3|--dist|loadfile|--no-loadscope-reorder"
CHECKS = ("ruff|check", "ruff|format|--check", "mypy")

# Says how it was called, for scripts that forward their arguments to a module.
ECHO = "import os, sys\nprint(__package__, *sys.argv[1:], sep='|')\nprint('cwd', os.getcwd())\n"

# Builds what pyproject.toml describes, as setuptools does, which is not in the small lock.
BACKEND = """
import os, zipfile

FILES = {
  "METADATA": "Metadata-Version: 2.1\\nName: official_nasfpn\\nVersion: 1.0",
  "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any",
  "entry_points.txt": "[console_scripts]\\nnasfpn = official_nasfpn.cli:main",
  "RECORD": "",
}

def build_editable(folder, config_settings=None, metadata_directory=None):
  name = "official_nasfpn-1.0-py3-none-any.whl"
  with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
    wheel.writestr("official_nasfpn.pth", os.getcwd())
    for file, text in FILES.items():
      wheel.writestr("official_nasfpn-1.0.dist-info/" + file, text)
  return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "official-nasfpn"
version = "1.0"
"""


class SmallRepository:
  """The scripts in a folder of their own, with a lock of two packages that need no network."""

  def __init__(self, folder):
    self.root = folder / "a repository"
    self.venv = self.root / ".venv"
    self.wheels = folder / "wheels"
    self.elsewhere = folder / "else where"
    shutil.copytree(REPOSITORY / "scripts", self.root / "scripts")
    self.wheels.mkdir()
    self.elsewhere.mkdir()
    package = self.root / "official_nasfpn"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("def main():\n  print(__file__)\n")
    (self.root / "backend.py").write_text(BACKEND)
    (self.root / "pyproject.toml").write_text(PROJECT)
    (package / "quickstart.py").write_text(ECHO + "print('path', os.environ['PYTHONPATH'])\n")
    self.pin("1.0")

  def pin(self, version, corrupt=False):
    """Locks stand-ins for one build tool and, at this version, for the tests' tools."""
    modules = {f"{name}/__main__.py": ECHO for name in ("pytest", "ruff", "mypy")}
    lock = self.build("wheel", "1.0", {}) + self.build("pytest", version, modules)
    if corrupt:
      lock = lock.replace("sha256:", "sha256:0000")[:-5] + "\n"
    (self.root / "requirements.lock").write_text(lock)

  def build(self, name, version, files):
    """Writes a wheel of these files and gives its entry in a lock."""
    path = self.wheels / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
      for file, text in files.items():
        wheel.writestr(file, text)
      wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")
      wheel.writestr(
        f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
      )
      wheel.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"

  def start(self, script, *arguments, **environment):
    """Starts a script from a folder elsewhere."""
    return subprocess.Popen(
      [BASH, self.root / "scripts" / script, *arguments],
      cwd=self.elsewhere,
      env={
        **{key: value for key, value in os.environ.items() if key != "PYTHON"},
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(self.wheels),
        "PYTHONPATH": "/of/the/caller",
        # Whatever this machine has.
        "NASFPN_CUDA": "0",
        **environment,
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )

  def run(self, script, *arguments, **environment):
    """Runs a script to its end and gives (exit status, output, messages)."""
    process = self.start(script, *arguments, **environment)
    output, messages = process.communicate(timeout=120)
    return process.returncode, output, messages

  def run_command(self):
    """Runs the project's own command in the folder elsewhere and gives what it prints."""
    command = subprocess.run(
      [self.venv / "bin" / "nasfpn"],
      cwd=self.elsewhere,
      env={"PATH": os.environ["PATH"]},
      capture_output=True,
      text=True,
    )
    return (command.stdout + command.stderr).strip()

  def installed_version(self):
    """The version of the stand-in that .venv holds."""
    [info] = self.venv.glob("lib/python*/site-packages/pytest-*.dist-info")
    return re.fullmatch(r"pytest-(.*)\.dist-info", info.name)[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """A repository where the first two calls came at once, with the messages of both."""
  small = SmallRepository(tmp_path_factory.mktemp("installed"))
  calls = [small.start("quickstart.sh", "--output_dir", "a folder") for _ in range(2)]
  results = [call.communicate(timeout=120) for call in calls]
  assert [call.returncode for call in calls] == [0, 0], results
  return small, results


@pytest.fixture
def fresh(tmp_path):
  """A repository where nothing was called yet."""
  return SmallRepository(tmp_path)


def pin_pip(small):
  """Adds the pip of these tests to the lock and to the wheels."""
  folder = Path(pip.__file__).parent
  paths = [path for path in folder.rglob("*.*") if path.is_file() and path.suffix != ".pyc"]
  files = {f"pip/{path.relative_to(folder)}": path.read_bytes() for path in paths}
  with (small.root / "requirements.lock").open("a") as lock:
    lock.write(small.build("pip", pip.__version__, files))


def python_without_pip(folder):
  """Gives a Python that knows neither ensurepip nor pip, as Debian's does at first."""
  return write_interpreter(
    folder / "python",
    f'[[ "$*" != *ensurepip* && "$*" != "-m pip"* ]] && exec "{sys.executable}" "$@"',
  )


def write_interpreter(path, body):
  """Writes a program to name as PYTHON."""
  path.write_text(f"#!{BASH}\n{body}\n")
  path.chmod(0o755)
  return str(path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script):
  subprocess.run([BASH, "-n", script], check=True)


class TestInstalling:
  @pytest.mark.slow
  def test_of_two_calls_at_once_one_installs_and_the_other_waits(self, installed):
    _, results = installed
    messages = sorted(messages for _, messages in results)
    assert re.match(r"Installing the pinned packages into .*\.venv", messages[0])
    assert re.match(r"Waiting for another installation into .*\.venv", messages[1])
    assert all(len(text.splitlines()) == 1 for text in messages)

  @pytest.mark.slow
  def test_a_later_call_starts_at_once(self, installed):
    small, _ = installed
    status, _, messages = small.run("quickstart.sh")
    assert (status, messages) == (0, "")

  @pytest.mark.slow
  def test_the_checkout_itself_is_installed_with_its_command(self, installed):
    small, _ = installed
    assert small.run_command() == str(small.root / "official_nasfpn" / "cli.py")

  @pytest.mark.slow
  def test_the_command_follows_a_checkout_that_is_moved_or_changed(self, installed, fresh):
    shutil.copytree(installed[0].venv, fresh.venv, symlinks=True)
    assert fresh.run_command() == str(installed[0].root / "official_nasfpn" / "cli.py")
    assert fresh.run("quickstart.sh")[0] == 0
    assert fresh.run_command() == str(fresh.root / "official_nasfpn" / "cli.py")
    assert fresh.installed_version() == "1.0"

    (fresh.venv / "bin" / "nasfpn").unlink()
    with (fresh.root / "pyproject.toml").open("a") as project:
      project.write("# Other commands.\n")
    assert fresh.run("quickstart.sh")[0] == 0
    assert fresh.run_command() == str(fresh.root / "official_nasfpn" / "cli.py")

  @pytest.mark.slow
  def test_a_checkout_that_cannot_be_installed_shows_the_end_of_the_log(self, installed, fresh):
    shutil.copytree(installed[0].venv, fresh.venv, symlinks=True)
    (fresh.root / "backend.py").write_text("raise ValueError('a broken backend')\n")
    status, output, messages = fresh.run("quickstart.sh")
    assert (status, output) == (1, "")
    assert "a broken backend" in messages
    assert str(fresh.venv / "install.log") in messages.splitlines()[-1]

  @pytest.mark.slow
  def test_cudas_libraries_are_installed_where_there_is_a_driver(self, fresh):
    cuda = fresh.build("nvidia_cudnn_cu12", "9.0", {"nvidia_cudnn.py": ""})
    (fresh.root / "requirements-cuda.lock").write_text(cuda)

    def has_cuda():
      return bool(list(fresh.venv.glob("lib/python*/site-packages/nvidia_cudnn.py")))

    status, _, messages = fresh.run("quickstart.sh")
    assert (status, has_cuda()) == (0, False), messages
    assert "NVIDIA" not in messages
    # As on the day on which the driver is installed.
    status, _, messages = fresh.run("quickstart.sh", NASFPN_CUDA="1")
    assert (status, has_cuda()) == (0, True), messages
    assert "NVIDIA driver: CUDA's libraries" in messages
    status, _, messages = fresh.run("quickstart.sh", NASFPN_CUDA="1")
    assert (status, messages) == (0, "")

  def test_changed_lock_is_installed_and_repaired_after_a_kill(self, installed, fresh):
    shutil.copytree(installed[0].venv, fresh.venv, symlinks=True)
    fresh.pin("2.0")
    call = fresh.start("quickstart.sh")
    while (fresh.venv / "installed").exists() or not (fresh.venv / "bin").exists():
      assert call.poll() is None
      time.sleep(0.01)
    os.killpg(call.pid, signal.SIGKILL)
    call.communicate()

    status, _, messages = fresh.run("quickstart.sh")
    assert status == 0
    assert messages.startswith("Installing")
    assert fresh.installed_version() == "2.0"

  @pytest.mark.slow
  def test_wrong_hash_fails_and_shows_the_end_of_the_log(self, fresh):
    fresh.pin("1.0", corrupt=True)
    status, output, messages = fresh.run("test.sh")
    assert (status, output) == (1, "")
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in messages
    assert str(fresh.venv / "install.log") in messages.splitlines()[-1]
    assert not (fresh.venv / "installed").exists()

  @pytest.mark.slow
  def test_pip_of_the_system_stands_in_for_a_missing_ensurepip(self, fresh, tmp_path):
    python = write_interpreter(
      tmp_path / "python", f'[[ "$*" != *ensurepip* ]] && exec "{sys.executable}" "$@"'
    )
    pin_pip(fresh)
    status, output, messages = fresh.run("quickstart.sh", PYTHON=python)
    assert status == 0, messages
    assert output.startswith("official_nasfpn")

  @pytest.mark.slow
  def test_without_any_pip_that_of_debian_is_downloaded(self, fresh, tmp_path):
    source = subprocess.run(
      ["apt-get", "--print-uris", "download", "python3-pip-whl"], capture_output=True
    )
    if source.returncode:
      pytest.skip("this system knows no package python3-pip-whl")
    pin_pip(fresh)
    status, output, messages = fresh.run("quickstart.sh", PYTHON=python_without_pip(tmp_path))
    assert status == 0, messages
    assert output.startswith("official_nasfpn")

  def test_without_any_pip_the_package_to_install_is_named(self, fresh, tmp_path):
    write_interpreter(tmp_path / "apt-get", "exit 100")
    status, _, messages = fresh.run(
      "quickstart.sh",
      PYTHON=python_without_pip(tmp_path),
      PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    assert status == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"sudo apt install python{version}-venv" in messages
    assert not (fresh.venv / "installed").exists()

  def test_a_python_without_venv_names_the_package_to_install(self, fresh, tmp_path):
    python = write_interpreter(
      tmp_path / "python", f'[[ "$*" != *"import venv"* ]] && exec "{sys.executable}" "$@"'
    )
    status, _, messages = fresh.run("quickstart.sh", PYTHON=python)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert status == 1
    assert f"sudo apt install python{version}-venv" in messages

  def test_lock_of_a_call_just_started_is_not_taken_for_a_strangers_file(self, fresh, tmp_path):
    write_interpreter(tmp_path / "ls", f'touch "$2/lock"; exec {shutil.which("ls")} "$@"')
    python = write_interpreter(
      tmp_path / "python", f'[[ "$*" != *"import venv"* ]] && exec "{sys.executable}" "$@"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    _, _, messages = fresh.run("quickstart.sh", PYTHON=python, PATH=path)
    assert "can create no virtual environment" in messages

  def test_no_python_says_how_to_get_one(self, fresh, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("cat", "dirname", "sha256sum"):
      (programs / name).symlink_to(shutil.which(name))
    status, _, messages = fresh.run("quickstart.sh", PATH=str(programs))
    assert status == 1
    assert messages.startswith("No Python 3.10, 3.11, 3.12 or 3.13 found.")
    assert "sudo apt install python3" in messages
    assert not fresh.venv.exists()

  @pytest.mark.parametrize("body", ["exit 127", "echo 3.9; exit 1"], ids=["broken", "too old"])
  def test_named_python_that_does_not_fit_is_refused(self, fresh, tmp_path, body):
    python = write_interpreter(tmp_path / "python", body)
    status, _, messages = fresh.run("quickstart.sh", PYTHON=python)
    assert status == 1
    assert messages == f"PYTHON={python} is not a Python 3.10, 3.11, 3.12 or 3.13 that runs.\n"

  def test_environment_made_by_hand_is_left_alone(self, fresh):
    (fresh.venv / "bin").mkdir(parents=True)
    status, _, messages = fresh.run("quickstart.sh")
    assert status == 1
    assert "holds something that these scripts did not make" in messages
    assert os.listdir(fresh.venv) == ["bin"]


@pytest.mark.slow
class TestForwarding:
  def test_quickstart_keeps_arguments_and_current_folder(self, installed):
    small, results = installed
    for output, _ in results:
      assert output.splitlines() == [
        "official_nasfpn|--output_dir|a folder",
        f"cwd {small.elsewhere}",
        f"path {small.root}",
      ]

  def test_tests_run_from_the_repository_on_two_workers(self, installed):
    small, _ = installed
    status, output, _ = small.run("test.sh", "-k", "a b")
    assert status == 0
    assert output.splitlines() == [f"{PYTEST}|-k|a b", f"cwd {small.root}"]

  def test_style_and_types_are_checked_first_when_all_tests_run(self, installed):
    small, _ = installed
    _, output, _ = small.run("test.sh")
    calls = output.splitlines()[::2]
    assert calls == [*CHECKS, f"{PYTEST}|-m|not minutes"]

  def test_all_of_them_are_run_on_demand(self, installed):
    small, _ = installed
    _, output, _ = small.run("test.sh", "--all")
    assert output.splitlines()[::2] == [*CHECKS, PYTEST]
    _, output, _ = small.run("test.sh", "--all", "-n0")
    assert output.splitlines()[0] == "pytest|-n0"

  @pytest.mark.parametrize("argument", ["-n0", "--numprocesses=4", "--pdb"])
  def test_workers_are_the_callers_choice(self, installed, argument):
    small, _ = installed
    _, output, _ = small.run("test.sh", argument)
    assert output.splitlines()[0] == f"pytest|{argument}"


# Every platform that the lock is for, as the markers of requirements name it.
PLATFORMS = [
  {
    "python_version": f"3.{minor}",
    "python_full_version": f"3.{minor}.0",
    "platform_machine": machine,
    "sys_platform": "linux",
    "platform_system": "Linux",
  }
  for minor in (10, 11, 12, 13)
  for machine in ("x86_64", "aarch64")
]


class TestLock:
  TEXT = (REPOSITORY / "requirements.lock").read_text()
  CUDA_TEXT = (REPOSITORY / "requirements-cuda.lock").read_text()

  def pins(self, platform, text=TEXT):
    """The versions that the lock gives this platform, by name."""
    pins = {}
    for line in re.findall(r"^[a-z0-9].*", text, re.MULTILINE):
      requirement = Requirement(line.rstrip(" \\"))
      if requirement.marker is None or requirement.marker.evaluate(platform):
        assert requirement.name not in pins, line
        pins[requirement.name] = str(requirement.specifier)
    return pins

  @pytest.mark.parametrize(
    "platform", PLATFORMS, ids=lambda p: p["python_version"] + "-" + p["platform_machine"]
  )
  def test_has_every_direct_requirement_at_its_version(self, platform):
    pins = self.pins(platform)
    assert all(pin.startswith("==") for pin in pins.values())
    for line in (REPOSITORY / "requirements.txt").read_text().splitlines():
      if line and not line.startswith("#"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(platform):
          assert pins[canonicalize_name(requirement.name)] == str(requirement.specifier)

  @pytest.mark.parametrize(
    "platform", PLATFORMS, ids=lambda p: p["python_version"] + "-" + p["platform_machine"]
  )
  def test_that_of_cuda_adds_what_tensorflow_asks_for_and_changes_nothing(self, platform):
    pins, with_cuda = self.pins(platform), self.pins(platform, self.CUDA_TEXT)
    added = {name: pin for name, pin in with_cuda.items() if pins.get(name) != pin}
    assert all(name.startswith("nvidia-") for name in added)
    for line in importlib.metadata.requires("tensorflow"):
      requirement = Requirement(line)
      if requirement.marker and requirement.marker.evaluate({**platform, "extra": "and-cuda"}):
        version = added[requirement.name].removeprefix("==")
        assert requirement.specifier.contains(version), line

  @pytest.mark.parametrize("text", [TEXT, CUDA_TEXT], ids=["core", "cuda"])
  def test_every_pin_has_hashes(self, text):
    for entry in re.split(r"\n(?=[a-z0-9])", text)[1:]:
      assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]

  @pytest.mark.parametrize("text", [TEXT, CUDA_TEXT], ids=["core", "cuda"])
  def test_names_no_place(self, text):
    assert not re.search(r"://|file:|index-url|find-links| @ |^\s*[^#\s]*/|(?<= )/", text)
