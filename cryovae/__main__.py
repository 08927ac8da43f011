"""Runs the command line: ``python -m cryovae``."""

from cryovae.cli.app import app

if __name__ == "__main__":
    app()
