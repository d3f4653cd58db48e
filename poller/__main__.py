"""Lets ``python -m poller`` do what ``poller`` does."""

from poller.cli import main

if __name__ == "__main__":
    main()
