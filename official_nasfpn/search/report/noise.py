"""How far the rewards of one architecture differ from training to training."""

from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.search.proxy_check.rank_correlation import Noise


def read_noise(check_dir: Path, proxy_mode: str) -> Noise | None:
  """Returns the noise that a proxy check has measured.

  A search alone does not know it: an architecture that comes again is not trained again.

  Args:
    check_dir: that `nasfpn proxy_check` has written to.
    proxy_mode: of the search.

  Returns:
    The noise; None where the check had one seed, or one architecture with all of them.

  Raises:
    UserError: it holds no finished check, or one of another kind of trial.
  """
  path = check_dir / "summary.json"
  try:
    content = parse_json(path.read_text(encoding="utf-8"))
    mode = content["mode"]
    noise = None if content["noise"] is None else Noise(**content["noise"])
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise UserError(
      f"{path} is no summary of a finished proxy check ({error}). Run `nasfpn proxy_check` to its "
      "end, or leave --proxy_check out."
    ) from error
  if mode != proxy_mode:
    raise UserError(
      f"{path} is a check of Proxy.mode = {mode!r}, and the search has {proxy_mode!r}: its rewards "
      "have another noise. Check the recipe of this search."
    )
  return noise if noise and noise.within > 0 else None
