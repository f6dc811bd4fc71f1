"""The file of shared weights: made once, made again if damaged, and never executed."""

import multiprocessing
import os
import time
import zipfile

import numpy as np
import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy import warm_state

SHAPES = {"a kernel": (2, 3), "a bias": (3,)}
PATIENCE = 120


def weights(value=0.5):
  return {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}


def never():
  raise AssertionError("made again")


def load(directory, make=never, fingerprint="recipe"):
  return warm_state.load_or_make(directory, fingerprint, SHAPES, make)


def test_made_once_then_read(tmp_path):
  made = load(tmp_path / "warm", weights)
  read = load(tmp_path / "warm")
  for name in SHAPES:
    np.testing.assert_array_equal(read[name], made[name])
    assert read[name].dtype == np.float32


def test_those_of_another_recipe_are_made_again(tmp_path):
  load(tmp_path, weights)
  assert load(tmp_path, lambda: weights(2.0), "another")["a bias"][0] == 2.0


class Trap:
  def __reduce__(self):
    return os.mkdir, ("executed",)


def damage_nothing_left(path):
  path.write_bytes(b"")


def damage_half_left(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_no_archive(path):
  path.write_bytes(os.urandom(2000))


def damage_bits(path):
  with zipfile.ZipFile(path) as archive:
    offset = archive.getinfo("a kernel.npy").header_offset
  content = bytearray(path.read_bytes())
  content[offset + 200] ^= 0xFF
  path.write_bytes(content)


def damage_shape(path):
  np.savez(path, fingerprint=np.array("recipe"), **weights() | {"a bias": np.zeros(4, np.float32)})


def damage_missing(path):
  np.savez(path, fingerprint=np.array("recipe"), **{"a bias": np.zeros(3, np.float32)})


def damage_nan(path):
  np.savez(path, fingerprint=np.array("recipe"), **weights(np.nan))


def damage_pickle(path):
  trap = np.empty(3, object)
  trap[:] = [Trap()] * 3
  np.savez(path, fingerprint=np.array("recipe"), **weights() | {"a bias": trap})


@pytest.mark.parametrize(
  "damage",
  [
    damage_nothing_left,
    damage_half_left,
    damage_no_archive,
    damage_bits,
    damage_shape,
    damage_missing,
    damage_nan,
    damage_pickle,
  ],
)
def test_damaged_ones_are_made_again(tmp_path, monkeypatch, damage):
  monkeypatch.chdir(tmp_path)
  load(tmp_path / "warm", weights)
  damage(tmp_path / "warm" / "weights.npz")
  assert load(tmp_path / "warm", lambda: weights(2.0))["a bias"][0] == 2.0
  assert load(tmp_path / "warm")["a bias"][0] == 2.0
  assert not (tmp_path / "executed").exists()


def test_no_damaged_byte_is_a_traceback_or_another_weight(tmp_path, capsys):
  load(tmp_path, weights)
  path = tmp_path / "weights.npz"
  whole = path.read_bytes()
  refused = 0
  for place in range(0, len(whole), 3):
    for bits in (0x01, 0x80, 0xFF):
      path.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
      capsys.readouterr()
      found = warm_state._read(path, "recipe", SHAPES)
      if found is None:
        refused += 1
      else:
        assert all((found[name] == value).all() for name, value in weights().items())
  assert refused > 100


def test_weights_that_cannot_be_read_back_are_not_made_for_ever(tmp_path):
  with pytest.raises(UserError, match=r"weights\.npz cannot be read back"):
    load(tmp_path, lambda: weights(float("nan")))


def make_slowly(directory):
  def make():
    (directory / f"made-by-{os.getpid()}").touch()
    time.sleep(2)
    return weights()

  load(directory / "warm", make)


def make_and_die(directory):
  def make():
    (directory / "started").touch()
    time.sleep(PATIENCE)

  load(directory / "warm", make)


def test_of_several_processes_one_makes_them(tmp_path):
  context = multiprocessing.get_context("fork")
  processes = [context.Process(target=make_slowly, args=(tmp_path,)) for _ in range(4)]
  for process in processes:
    process.start()
  for process in processes:
    process.join(PATIENCE)
    assert process.exitcode == 0
  assert len(list(tmp_path.glob("made-by-*"))) == 1


def test_another_process_takes_over_from_one_that_died(tmp_path):
  context = multiprocessing.get_context("fork")
  first = context.Process(target=make_and_die, args=(tmp_path,))
  first.start()
  deadline = time.monotonic() + PATIENCE
  while not (tmp_path / "started").exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  second = context.Process(target=make_slowly, args=(tmp_path,))
  second.start()
  first.kill()
  first.join()
  second.join(PATIENCE)
  assert second.exitcode == 0
  assert load(tmp_path / "warm")["a bias"][0] == 0.5
