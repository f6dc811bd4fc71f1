"""Writes a search as one HTML file: `nasfpn report --search_dir DIR`.

While the search runs or when it has ended. The file needs nothing else, and no network.
"""

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.search.search import Search

_SEARCH_DIR = flags.DEFINE_string("search_dir", None, "Of the search.", required=True)
_STORE = flags.DEFINE_string(
  "store",
  None,
  "The database that the trials are in, if it asks for a password: PGPASSWORD goes to no other "
  "address than this one.",
)
_PROXY_CHECK = flags.DEFINE_string(
  "proxy_check",
  None,
  "Folder of a `nasfpn proxy_check` of the search's recipe: it has measured how far the rewards of "
  "one architecture differ, and the report says what that leaves of the differences.",
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write. Default: report.html in it.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  search = Search(_SEARCH_DIR.value, store=_STORE.value)
  print(search.write_report(_OUTPUT.value, _PROXY_CHECK.value))


if __name__ == "__main__":
  run_program(main)
