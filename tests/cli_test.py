"""The command `nasfpn`: which program it runs, and what it says without running one."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import official_nasfpn
from official_nasfpn import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture
def nasfpn(monkeypatch, capsys):
  """Returns a function that runs the command in this process and gives (status, output, errors)."""

  def run(*arguments):
    monkeypatch.setattr(sys, "argv", ["nasfpn", *arguments])
    status = 0
    try:
      cli.main()
    except SystemExit as end:
      # As Python does with a sentence.
      status = end.code if isinstance(end.code, int) else 1
      print(end.code if isinstance(end.code, str) else "", file=sys.stderr)
    captured = capsys.readouterr()
    return status, captured.out, captured.err.strip()

  return run


def run_apart(*arguments):
  """Runs the command in a process of its own: absl knows one program a process."""
  return subprocess.run(
    [sys.executable, "-m", "official_nasfpn", *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_all_programs_are_listed_in_a_line_each(nasfpn, arguments):
  status, output, errors = nasfpn(*arguments)
  assert (status, errors) == (0, "")
  listed = [line.split()[1] for line in output.splitlines() if line.startswith("  nasfpn ")]
  assert listed == [program.name for program in cli.PROGRAMS]
  assert max(map(len, output.splitlines())) <= 100


def test_the_version_is_the_package_s(nasfpn):
  assert nasfpn("--version") == (0, f"nasfpn {official_nasfpn.__version__}\n", "")


@pytest.mark.parametrize(
  ("name", "nearest"),
  [("serch", "search"), ("traim", "train"), ("prepare-data", "prepare_data"), ("--hlep", None)],
)
def test_the_nearest_is_named_where_there_is_none(nasfpn, name, nearest):
  status, output, errors = nasfpn(name)
  assert (status, output) == (1, "")
  assert errors.startswith(f"error: There is no command {name!r}. Did you mean nasfpn ")
  assert nearest is None or f"Did you mean nasfpn {nearest}?" in errors


@pytest.mark.parametrize("program", cli.PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_there(program):
  assert importlib.util.find_spec(f"official_nasfpn.{program.module}")
  assert cli._program(program.name) is program


def test_every_module_that_is_a_program_has_a_command():
  package = Path(official_nasfpn.__file__).parent
  starts = {
    ".".join(path.relative_to(package).with_suffix("").parts)
    for path in package.rglob("*.py")
    if "\n  run_program(main)\n" in path.read_text(encoding="utf-8")
  }
  assert starts <= {program.module for program in cli.PROGRAMS}
  assert len(starts) >= 12


def test_programs_are_known_by_the_names_of_their_modules_too():
  assert cli._program("prepare_data") is cli._program("prepare")
  assert cli._program("proxy-check") is cli._program("proxy_check")


def test_the_list_and_the_version_import_nothing_heavy():
  code = f"""if True:
    import sys
    sys.path.insert(0, {str(ROOT)!r})
    sys.argv = ["nasfpn", "--help"]
    from official_nasfpn import cli
    cli.main()
    loaded = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
    sys.exit(" ".join(sorted(loaded)))
  """
  # Without site-packages, whose start-up files import what they like.
  result = subprocess.run(
    [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
  )
  assert result.stderr.split() == ["__main__", "official_nasfpn"]


@pytest.mark.parametrize("is_installed", [True, False])
def test_what_an_installed_command_starts_imports_nothing_from_the_current_folder(
  is_installed, tmp_path, monkeypatch
):
  (tmp_path / "queue.py").write_text("raise ValueError('not the library')\n")
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PYTHONSAFEPATH", "")
  monkeypatch.setattr(sys, "path", [*sys.path] if is_installed else ["", *sys.path])
  cli._keep_current_folder_out()
  child = subprocess.run(
    [sys.executable, "-c", "import queue"], capture_output=True, text=True, check=False
  )
  # Before 3.11 Python has no such choice.
  assert ("not the library" in child.stderr) == (not is_installed or sys.version_info < (3, 11))


@pytest.mark.parametrize("name", ["export", "figures"])
def test_help_of_a_program_is_its_own_and_names_the_command(name):
  result = run_apart(name, "--help")
  assert (result.returncode, result.stderr) == (0, "")
  source = Path(official_nasfpn.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
  assert result.stdout.startswith(ast.get_docstring(ast.parse(source)).splitlines()[0])
  assert f"\nnasfpn {name}:\n" in result.stdout
  assert "--output" in result.stdout
  # Flags of libraries are in --helpfull.
  assert "--verbosity" not in result.stdout


def test_a_wrong_flag_is_a_failure():
  result = run_apart("figures", "--figrue=exits")
  assert (result.returncode, result.stdout) == (1, "")
  assert "Unknown command line flag 'figrue'. Did you mean: figure ?" in result.stderr


def test_a_program_gets_its_arguments_and_its_errors_are_one_line(tmp_path):
  result = run_apart("figures", "--figure=exits", f"--output={tmp_path / 'figure.txt'}")
  assert result.returncode == 1
  assert (
    result.stderr == f"error: --output {tmp_path}/figure.txt: an image ends in .png, .svg, .pdf.\n"
  )


def test_a_dependency_that_is_missing_is_named():
  code = (
    "import sys; sys.modules['sqlalchemy'] = None; sys.argv = ['nasfpn', 'search', '--status']; "
    "from official_nasfpn import cli; cli.main()"
  )
  result = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert result.returncode == 1
  assert result.stderr == (
    "error: The package sqlalchemy is not installed: pip install official-nasfpn brings all that "
    "is needed.\n"
  )
