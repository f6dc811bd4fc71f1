"""Makes `python -m official_nasfpn` the command `nasfpn`."""

from official_nasfpn.cli import main

if __name__ == "__main__":
  main()
