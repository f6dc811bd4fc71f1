"""Files of torch.save: read where PyTorch is installed, and nothing in them is ever run."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.installation import is_installed
from official_nasfpn.modeling.backbones import LEVELS, build_backbone
from official_nasfpn.modeling.published_weights import library_of, take_published_weights
from tests.modeling.published_weights_files import torch_weights

NEEDS_TORCH = pytest.mark.skipif(not is_installed("torch"), reason="PyTorch is not installed")
NEEDS_TORCHVISION = pytest.mark.skipif(
  not is_installed("torchvision"), reason="torchvision is not installed"
)


class _Malicious:
  """Makes a folder when it is read as a pickle."""

  def __init__(self, marker):
    self._marker = str(marker)

  def __reduce__(self):
    return os.mkdir, (self._marker,)


@pytest.fixture(scope="module")
def r18():
  return build_backbone("R-18-torch", (64, 64), width=0.125)


@pytest.fixture
def weights(r18):
  """Returns weights of a narrow R-18 as PyTorch's tensors, with what else its state has."""
  import torch

  rng = np.random.default_rng(0)
  values = {
    name: torch.tensor(rng.uniform(0.5, 1, value.shape), dtype=torch.float32)
    for name, value in torch_weights(r18).items()
  }
  values["bn1.num_batches_tracked"] = torch.tensor(3)
  values["fc.weight"], values["fc.bias"] = torch.zeros([10, 64]), torch.zeros([10])
  return values


@NEEDS_TORCH
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize(
  "state",
  [
    lambda weights: weights,
    lambda weights: {"state_dict": weights, "epoch": 3},
    lambda weights: {"model": weights, "optimizer": {"state": {}}},
    lambda weights: {"state_dict": {f"module.{key}": value for key, value in weights.items()}},
  ],
  ids=["plain", "state_dict", "model", "several GPUs"],
)
def test_the_weights_are_taken(state, zipped, r18, weights, tmp_path):
  import torch

  path = tmp_path / "weights.pth"
  torch.save(state(weights), path, _use_new_zipfile_serialization=zipped)
  assert library_of(str(path)) == "torch"
  take_published_weights(r18, "R-18-torch", str(path))
  for name, value in torch_weights(r18).items():
    np.testing.assert_array_equal(value, weights[name].numpy(), err_msg=name)


@NEEDS_TORCH
def test_other_precisions_become_single(r18, weights, tmp_path):
  import torch

  path = tmp_path / "weights.pth"
  halves = {name: value.to(torch.bfloat16) for name, value in weights.items()}
  torch.save(halves, path)
  take_published_weights(r18, "R-18-torch", str(path))
  np.testing.assert_array_equal(
    torch_weights(r18)["conv1.weight"], halves["conv1.weight"].to(torch.float32).numpy()
  )


@NEEDS_TORCH
@pytest.mark.parametrize("how", ["zip", "older format", "pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(how, r18, weights, tmp_path):
  import torch

  path, marker = tmp_path / "weights.pth", tmp_path / "was_run"
  state = {**weights, "conv1.weight": _Malicious(marker)}
  if how == "pickle":
    path.write_bytes(pickle.dumps({"state_dict": _Malicious(marker)}))
  else:
    torch.save(state, path, _use_new_zipfile_serialization=how == "zip")
  with pytest.raises(
    UserError, match=r"weights\.pth' cannot be read without running what is in it"
  ):
    take_published_weights(r18, "R-18-torch", str(path))
  assert not marker.exists()
  # It would have been.
  if how == "pickle":
    pickle.loads(path.read_bytes())
  else:
    torch.load(path, weights_only=False)
  assert marker.exists()


@NEEDS_TORCH
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
def test_a_file_that_is_cut_short_is_named(zipped, r18, weights, tmp_path):
  import torch

  path = tmp_path / "weights.pth"
  torch.save(weights, path, _use_new_zipfile_serialization=zipped)
  path.write_bytes(path.read_bytes()[:-5000])
  with pytest.raises(UserError, match=r"weights\.pth' cannot be read"):
    take_published_weights(r18, "R-18-torch", str(path))


@NEEDS_TORCH
@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {}}])
def test_a_file_without_weights_is_named(content, r18, tmp_path):
  import torch

  path = tmp_path / "weights.pth"
  torch.save(content, path)
  with pytest.raises(UserError, match="holds no weights by name"):
    take_published_weights(r18, "R-18-torch", str(path))


@NEEDS_TORCH
@NEEDS_TORCHVISION
@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_the_maps_are_torchvision_s(depth, tmp_path):
  import torch
  import torchvision

  torch.manual_seed(0)
  reference = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
  for name, value in reference.state_dict().items():
    if value.is_floating_point() and value.ndim == 1:
      spread = (0.5, 1.5) if name.endswith(("running_var", "weight")) else (-0.3, 0.3)
      value.uniform_(*spread)
  torch.save(reference.state_dict(), tmp_path / "weights.pth")
  names = {f"layer{stage}": str(stage + 1) for stage in (2, 3, 4)}
  for size in ((64, 96), (96, 64)):
    backbone = build_backbone(f"R-{depth}-torch", size)
    take_published_weights(backbone, f"R-{depth}-torch", str(tmp_path / "weights.pth"))
    images = np.random.default_rng(1).normal(0, 1, (2, *size, 3)).astype(np.float32)
    features, expected = torch.tensor(images.transpose(0, 3, 1, 2)), {}
    with torch.no_grad():
      for name, layer in list(reference.named_children())[:-2]:
        features = layer(features)
        if name in names:
          expected[names[name]] = features.numpy().transpose(0, 2, 3, 1)
    found = backbone(tf.constant(images))
    for level in LEVELS:
      scale = np.abs(expected[level]).max()
      np.testing.assert_allclose(found[level], expected[level], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.skipif(is_installed("torch"), reason="PyTorch is installed")
@pytest.mark.parametrize("content", [b"\x80\x02}q\x00.", b"PK"], ids=["pickle", "zip"])
def test_without_pytorch_the_remedy_is_said(content, tmp_path):
  path = tmp_path / "weights.pth"
  path.write_bytes(content)
  if content == b"PK":
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("weights/data.pkl", b"")
  with pytest.raises(
    UserError, match=r"only PyTorch reads: pip install torch\. Or take the \.safe"
  ):
    library_of(str(path))
