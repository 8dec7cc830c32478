"""``python -m lram.harness.cli`` is the command ``lram``."""

from lram.harness.cli import main

if __name__ == "__main__":
    main()
