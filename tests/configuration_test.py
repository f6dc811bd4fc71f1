"""gin as this project uses it: recipes are data, and what they get wrong is said clearly."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import pydantic
import pytest

from official_nasfpn import configuration
from official_nasfpn.errors import UserError

REPOSITORY = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Point:
  x: int
  y: int


@configuration.configurable("Inner")
@dataclasses.dataclass(frozen=True)
class Inner:
  points: tuple[Point, ...] = ()

  def __post_init__(self):
    if len(self.points) > 2:
      raise ValueError("at most two points")


@configuration.configurable("Outer")
@configuration.settings
class Outer:
  width: int = 8
  sides: tuple[int, ...] = (4, 4)
  name: str | pathlib.Path | None = None
  inner: Inner | None = None

  @pydantic.field_validator("width")
  @classmethod
  def _check_luck(cls, width):
    if width == 13:
      raise ValueError("an unlucky number")
    return width

  def __post_init__(self):
    if self.name == "forbidden":
      raise UserError("There is no such name. Take another one.")
    if self.width > 1000 * len(self.sides):
      raise ValueError("too few sides for such a width")


def _outer(*params):
  configuration.parse((), params)
  return configuration.from_bindings(Outer)


def test_what_is_not_bound_keeps_its_default():
  assert _outer() == Outer()
  assert _outer("Outer.width = 3") == Outer(width=3)


def test_bindings_do_not_reach_instances_made_by_hand():
  configuration.parse((), ["Outer.width = 3"])
  assert Outer().width == 8


def test_instances_are_of_the_class_itself():
  assert type(_outer("Outer.inner = @Inner()").inner) is Inner
  assert type(_outer()) is Outer


def test_later_files_and_parameters_win(tmp_path):
  (tmp_path / "a.gin").write_text("Outer.width = 1\nOuter.sides = (1, 1)\nOuter.name = 'a'\n")
  (tmp_path / "b.gin").write_text("Outer.width = 2\nOuter.sides = (2, 2)\n")
  configuration.parse([tmp_path / "a.gin", str(tmp_path / "b.gin")], ["Outer.width = 3"])
  assert configuration.from_bindings(Outer) == Outer(3, (2, 2), "a")


def test_parsing_forgets_what_was_bound_before():
  configuration.parse((), ["Outer.width = 3"])
  configuration.parse()
  assert configuration.from_bindings(Outer) == Outer()


def test_includes_are_found_beside_the_recipe_and_from_the_current_directory(tmp_path, monkeypatch):
  (tmp_path / "recipes").mkdir()
  (tmp_path / "elsewhere").mkdir()
  (tmp_path / "recipes/base.gin").write_text("Outer.width = 1\nOuter.name = 'base'\n")
  (tmp_path / "elsewhere/shared.gin").write_text("Outer.sides = (9,)\n")
  (tmp_path / "recipes/top.gin").write_text(
    "include 'base.gin'  # the defaults\ninclude \"shared.gin\"\nOuter.width = 2\n"
  )
  monkeypatch.chdir(tmp_path / "elsewhere")
  configuration.parse([tmp_path / "recipes/top.gin"])
  assert configuration.from_bindings(Outer) == Outer(2, (9,), "base")


def test_macros_may_be_used_across_a_recipe(tmp_path):
  (tmp_path / "a.gin").write_text("side = 32\nOuter.width = %side\nOuter.sides = (%side, %side)\n")
  configuration.parse([tmp_path / "a.gin"])
  assert configuration.from_bindings(Outer) == Outer(32, (32, 32))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("Outer.widht = 3", r"Outer has no setting 'widht'\. Did you mean Outer\.width\?"),
    ("Outr.width = 3", r"No configurable matching 'Outr'\. Did you mean Outer\?"),
    ("outer.width = 3", r"Did you mean Outer\?"),
    ("Outer.inner = @Iner()", r"'@Iner\(\)'\. Did you mean Inner\?"),
    ("width = 3", r"'width' sets nothing\. Did you mean Outer\.width\?"),
    ("Outer.width = %widht\nwidth = 3", r"%widht is not defined\. Did you mean %width\?"),
    ("Outer.width = %width", r"%width is not defined\.$"),
    ("big/Outer.width = 3", "the scope 'big' is never entered"),
    ("Outer.width", "cannot parse 'Outer.width'"),
    ("Outer.width =", "cannot parse 'Outer.width =': Unable to parse value"),
    ("Outer.width == 3", "cannot parse 'Outer.width == 3'"),
    ("Outer.sides = (1,", r"cannot parse it: .*EOF in multi-line statement\."),
    ("Outer.name = 'a", "cannot parse"),
    ("Outer.width = three", "cannot parse 'Outer.width = three'"),
    ("import os", "'import os': a recipe cannot import Python modules"),
    ("from os import path", "cannot import Python modules"),
    ("include 'other.gin'", "only a recipe file can include another"),
  ],
)
def test_a_malformed_parameter_is_refused(text, message):
  with pytest.raises(UserError, match=message) as error:
    configuration.parse((), [text])
  assert "\n" not in str(error.value)


def test_a_malformed_recipe_is_named(tmp_path):
  recipe = tmp_path / "recipe.gin"
  recipe.write_text("Outer.width = 3\nOuter.depth = 4\n")
  with pytest.raises(UserError, match=r"recipe\.gin: .*'depth'\. Did you mean Outer\."):
    configuration.parse([recipe])


def test_a_recipe_cannot_run_code(tmp_path, monkeypatch):
  (tmp_path / "payload.py").write_text("raise SystemExit('ran')")
  monkeypatch.syspath_prepend(tmp_path)
  recipe = tmp_path / "recipe.gin"
  for line in (
    "import payload",
    "  import payload",
    "from payload import x",
    "import payload as p",
  ):
    recipe.write_text(f"Outer.width = 3\n{line}\n")
    with pytest.raises(UserError):
      configuration.parse([recipe])
  assert "payload" not in sys.modules


def test_missing_and_unreadable_recipes_are_refused(tmp_path):
  with pytest.raises(UserError, match=r"There is no gin file .*missing\.gin"):
    configuration.parse([tmp_path / "missing.gin"])
  (tmp_path / "binary.gin").write_bytes(b"\xff\xfe\x00\x01")
  with pytest.raises(UserError, match="is not a text file"):
    configuration.parse([tmp_path / "binary.gin"])
  (tmp_path / "top.gin").write_text("include 'missing.gin'\n")
  with pytest.raises(UserError, match=r"top\.gin includes 'missing\.gin', which is neither"):
    configuration.parse([tmp_path / "top.gin"])


def test_a_circle_of_includes_is_refused(tmp_path):
  (tmp_path / "a.gin").write_text("include 'b.gin'\n")
  (tmp_path / "b.gin").write_text("include 'a.gin'\n")
  with pytest.raises(UserError, match=r"a\.gin includes itself through .*b\.gin"):
    configuration.parse([tmp_path / "a.gin"])


@pytest.mark.parametrize(
  ("params", "message"),
  [
    (["Outer.name = 'forbidden'"], "Outer: There is no such name. Take another one."),
    (["Outer.inner = @Inner()", "Inner.points = (1, 2, 3)"], "Inner: at most two points."),
    (
      ["Outer.width = 'eight'"],
      "Outer.width = 'eight': "
      "input should be a valid integer, unable to parse string as an integer.",
    ),
    (
      ["Outer.width = 2.5", "Outer.sides = (4, None)"],
      "Outer.width = 2.5: input should be a valid integer, got a number with a fractional part. "
      "Outer.sides[1] = None: input should be a valid integer.",
    ),
    (["Outer.sides = 4"], "Outer.sides = 4: input should be a valid tuple."),
    (["Outer.width = 13"], "Outer.width = 13: an unlucky number."),
    (["Outer.width = 3000"], "Outer: too few sides for such a width."),
  ],
)
def test_a_value_that_a_class_refuses_gives_its_message_alone(params, message):
  configuration.parse((), params)
  with pytest.raises(UserError) as error:
    configuration.from_bindings(Outer)
  assert str(error.value) == message


def test_text_of_configs_is_read_back():
  outer = Outer(3, (5, 6, 7), 'it\'s "quoted"', Inner())
  text = configuration.to_gin(outer)
  assert "Outer.inner = @Inner()" in text
  assert _outer(text) == outer


def test_long_values_are_broken_into_lines_that_are_read_back():
  outer = Outer(sides=tuple(range(1000, 1100)))
  text = configuration.to_gin(outer)
  assert max(map(len, text.splitlines())) <= 100
  assert _outer(text) == outer


def test_plain_dataclasses_are_written_as_tuples_and_paths_as_text():
  text = configuration.to_gin(Outer(name=pathlib.Path("a/b"), inner=Inner((Point(1, 2),))))
  assert "Inner.points = ((1, 2),)" in text
  assert "Outer.name = 'a/b'" in text


def test_two_different_configs_of_one_class_cannot_share_a_text():
  assert configuration.to_gin(Outer(), Outer()) == configuration.to_gin(Outer())
  with pytest.raises(ValueError, match="two different Outer"):
    configuration.to_gin(Outer(), Outer(width=9))


def test_the_foundation_does_not_import_tensorflow():
  code = "import sys, official_nasfpn.configuration; sys.exit('tensorflow' in sys.modules)"
  subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def _stored(text):
  configuration.parse([configuration.Stored(text, "The stored text")])
  return configuration.from_bindings(Outer)


def test_stored_settings_are_read_back(tmp_path):
  outer = Outer(3, (5, 6, 7), 'it\'s "quoted"\ninclude "x.gin"', Inner())
  path = tmp_path / "config.gin"
  path.write_bytes(configuration.to_gin(outer).replace("\n", "\r\n").encode())
  stored = configuration.read_stored(path)
  assert _stored(stored.text) == outer
  assert configuration.stored_bindings(stored)["Outer.inner"] == "@Inner()"
  # What a user adds on the command line counts.
  configuration.parse([stored], ["Outer.width = 4"])
  assert configuration.from_bindings(Outer).width == 4


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("include '{}'", "line 2: stored settings cannot include a file"),
    ("\tinclude '{}'", "line 2: stored settings cannot include a file"),
    ("include \\\n'{}'", "line 2: stored settings cannot include a file"),
    ("include '/' '{}'", "line 2: stored settings cannot include a file"),
    ("import {}", "cannot parse|cannot import a module"),
    ("from os import path", "stored settings cannot import a module"),
    ("a/Outer.width = 3", "stored settings have no scopes"),
    ("a/Outer:\n  width = 3", "stored settings have no scopes"),
    ("side = 3", "stored settings define no macros"),
    ("Outer.width = %side", "a macro is not allowed here"),
    ("Outer.name = include '{}'", "gin cannot parse it: A value is not a literal"),
    ("Outer.sides = (1, include '{}')", "gin cannot parse it: A value is not a literal"),
    ("Outer:\n  include '{}'", "gin cannot parse it: Expected '='"),
    ("Outer.width = 1; include '{}'", "gin cannot parse it: Expected newline"),
    ("Outr.width = 3", r"there are no settings 'Outr'\. Did you mean Outer\?"),
    ("Outer.widht = 3", r"Outer has no setting 'widht'\. Did you mean Outer\.width\?"),
    ("gin.macro.value = 3", r"there are no settings 'gin\.macro'"),
    ("Outer.inner = @gin.singleton()", "No configurable matching reference"),
    ("Outer.inner = @a/Inner()", "No configurable matching reference"),
    ("Outer.sides = " + "(" * 5000, "nested too deeply|too many nested"),
    ("# " + "x" * configuration.MAX_BYTES, "it has more than 65,536 bytes"),
  ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_stored_settings_bind_values_and_do_nothing_else(tmp_path, line, message, newline):
  secret = tmp_path / "secret.gin"
  secret.write_text("Outer.name = 's3cret'\n")
  text = f"Outer.width = 3\n{line.replace('{}', str(secret))}\n".replace("\n", newline)
  with pytest.raises(UserError, match=message) as error:
    _stored(text)
  assert str(error.value).startswith("The stored text: ")
  assert "\n" not in str(error.value)
  assert "secret" not in str(error.value)
  # Read as data it says the same, but for names, which are not looked up.
  if not message.startswith(("there are no settings", "Outer has", "No configurable")):
    with pytest.raises(UserError, match=message):
      configuration.stored_bindings(configuration.Stored(text, "The stored text"))


@pytest.mark.parametrize("quote", ['"""', "'''"])
def test_an_include_in_a_string_is_text(tmp_path, quote):
  (tmp_path / "secret.gin").write_text("s3cret\n")
  include = f'include "{tmp_path / "secret.gin"}"'
  text = f"Outer.name = {quote}\n{include}\n{quote}\n"
  assert _stored(text).name == f"\n{include}\n"
  assert _outer(text).name == f"\n{include}\n"
  (tmp_path / "recipe.gin").write_text(text)
  configuration.parse([tmp_path / "recipe.gin"])
  assert configuration.from_bindings(Outer).name == f"\n{include}\n"


def test_includes_are_statements_and_stand_anywhere(tmp_path):
  (tmp_path / "base.gin").write_bytes(b"\xef\xbb\xbfside = 7\r\nOuter.width = %side\r\n")
  for line in (
    "\tinclude \\\n  'base.gin'",
    "include 'base' '.gin'  # the defaults",
    "include r'base.gin'",
  ):
    (tmp_path / "top.gin").write_text(f"Outer.width = 1\n{line}\nOuter.sides = (%side,)\n")
    configuration.parse([tmp_path / "top.gin"])
    assert configuration.from_bindings(Outer) == Outer(7, (7,))
  (tmp_path / "top.gin").write_text("# include 'missing.gin'\nOuter.width = 1\n")
  configuration.parse([tmp_path / "top.gin"])
  assert configuration.from_bindings(Outer) == Outer(1)


@pytest.mark.parametrize(
  "name", ["", "folder", "pipe", "/dev/zero", "x" * 300, "a\\0b", "../nowhere/x"]
)
def test_what_is_no_file_cannot_be_included(tmp_path, name):
  (tmp_path / "folder").mkdir()
  os.mkfifo(tmp_path / "pipe")
  (tmp_path / "top.gin").write_text(f"include '{name}'\n")
  with pytest.raises(UserError, match=r"top\.gin includes '.*', which is neither beside it nor in"):
    configuration.parse([tmp_path / "top.gin"])


def test_a_mistake_in_an_included_recipe_names_that_recipe(tmp_path):
  (tmp_path / "base.gin").write_text("Outer.depth = 4\n")
  (tmp_path / "top.gin").write_text("include 'base.gin'\n")
  with pytest.raises(UserError, match=r"^.*base\.gin: Outer has no setting 'depth'"):
    configuration.parse([tmp_path / "top.gin"])


def test_a_long_chain_of_includes_is_refused(tmp_path):
  for number in range(200):
    (tmp_path / f"{number}.gin").write_text(f"include '{number + 1}.gin'\n")
  with pytest.raises(UserError, match=r"0\.gin includes recipes more than 32 deep"):
    configuration.parse([tmp_path / "0.gin"])


def test_a_file_that_is_stored_data_is_so_wherever_it_is_found(tmp_path):
  def check(text, where):
    if "name" in text:
      raise UserError(f"{where} binds a name.")
    return text

  data, top = tmp_path / "data.gin", tmp_path / "top.gin"
  (tmp_path / "link.gin").symlink_to(data)
  for content, message in (
    ("Outer.width = 2", None),
    ("Outer.name = 'a'", r"\.gin binds a name"),
    ("include 'other.gin'", r"\.gin: line 1: stored settings cannot include a file"),
  ):
    data.write_text(content + "\n")
    for included in ("data.gin", "link.gin"):
      top.write_text(f"include '{included}'\n")
      if message is None:
        configuration.parse([top], checks={"data.gin": check})
        assert configuration.from_bindings(Outer).width == 2
        continue
      with pytest.raises(UserError, match=message):
        configuration.parse([top], checks={"data.gin": check})


def test_stored_files_are_read_only_where_they_are_files(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  (tmp_path / "large").write_bytes(b"#" * (configuration.MAX_BYTES + 1))
  (tmp_path / "link").symlink_to(tmp_path / "large")
  for name, message in (
    ("pipe", "it is not a file"),
    (".", "Is a directory"),
    ("missing", "No such file"),
    ("large", "more than 65,536 bytes"),
    ("link", "more than 65,536 bytes"),
  ):
    with pytest.raises(UserError, match=message):
      configuration.read_stored(tmp_path / name)
  with pytest.raises(UserError, match="is a symbolic link"):
    configuration.read_stored(tmp_path / "link", follows_links=False)


@pytest.mark.parametrize("binding", ["Outer.inner = @Outer()", "Inner.points = @Inner()"])
def test_settings_that_refer_to_themselves_are_one_sentence(binding):
  with pytest.raises(UserError, match=r"refers to what it is a part of.* Give it a value"):
    configuration.read_settings([Outer, Inner], gin_params=[binding])
