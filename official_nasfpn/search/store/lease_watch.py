"""Which leases have run out, by a process that trusts no clock that anybody may set.

The clock of a machine jumps when it is set, and by the hour when the machine was suspended. What
does not jump is the time for which this process has watched a lease that nobody renewed.
"""

import time
from collections.abc import Iterable

# Who has not looked for longer than this and a lease was suspended, like the workers, perhaps.
_SHORTEST_ABSENCE_SECONDS = 5.0


class LeaseWatch:
  """The leases that one process has seen, and since when."""

  def __init__(self, lease_seconds: float):
    """Has seen none yet.

    Args:
      lease_seconds: a lease that is not renewed for so long has run out.
    """
    self._lease_seconds = lease_seconds
    self._seen: dict[int, tuple[object, float]] = {}
    self._looked_at = 0.0
    self._server_time: float | None = None
    self._jumped_at: float | None = None

  def expired(self, leases: Iterable[tuple[int, object]]) -> list[int]:
    """Returns the trials whose lease was not renewed while this process watched.

    Args:
      leases: number of each running trial, and what changes when its lease is renewed.
    """
    now = time.monotonic()
    if now - self._looked_at > max(self._lease_seconds, _SHORTEST_ABSENCE_SECONDS):
      self._seen = {}
    self._looked_at = now
    before = self._seen
    self._seen = {
      number: before[number] if before.get(number, ("",))[0] == lease else (lease, now)
      for number, lease in leases
    }
    return [n for n, (_, since) in self._seen.items() if now - since >= self._lease_seconds]

  def has_jumped(self, server_time: float) -> bool:
    """Returns whether the clock of a server was set during the last lease.

    Args:
      server_time: what it says now, in seconds.
    """
    now = time.monotonic()
    if self._server_time is not None:
      drift = (server_time - self._server_time) - (now - self._looked_at)
      if abs(drift) > self._lease_seconds / 4:
        self._jumped_at = now
    self._server_time, self._looked_at = server_time, now
    return self._jumped_at is not None and now - self._jumped_at < self._lease_seconds
