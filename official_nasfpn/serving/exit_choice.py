"""How a caller chooses the exit of an anytime detector."""

from official_nasfpn.errors import UserError


def check_exit_choice(exit_number: int | None, budget_ms: float | None) -> None:
  """Raises a `UserError` if both an exit and a budget are given, or a budget that is no time."""
  if exit_number is not None and budget_ms is not None:
    raise UserError("Give an exit number or a budget, not both: a budget chooses the exit.")
  if budget_ms is not None and not budget_ms >= 0:  # What is no number is no time either.
    raise UserError(f"budget_ms is {budget_ms:g}: give milliseconds, 0 or more.")
