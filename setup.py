"""Puts the recipes into the package; everything else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = Path("gin")


class BuildWithRecipes(build_py):
  """Copies the top-level folder `gin/` to where `official_nasfpn.recipes` looks."""

  def run(self) -> None:
    # What an earlier build has left there, modules that are gone now, would be taken along.
    shutil.rmtree(self.build_lib, ignore_errors=True)
    super().run()
    # Installed with `pip install -e`, the package is the checkout, with the recipes beside it.
    if not self.editable_mode:
      for source, target in self._recipes().items():
        self.mkpath(str(Path(target).parent))
        self.copy_file(source, target)

  def get_outputs(self, include_bytecode: bool = True) -> list[str]:
    return [*super().get_outputs(include_bytecode), *self._recipes().values()]

  def _recipes(self) -> dict[str, str]:
    """Returns the recipes, each with the file to make of it."""
    package = Path(self.build_lib, "official_nasfpn")
    return {str(path): str(package / path) for path in sorted(RECIPES.rglob("*.gin"))}


setup(cmdclass={"build_py": BuildWithRecipes})
