"""python -m cryovae."""

from cryovae.interfaces.cli import app

if __name__ == "__main__":
    app()
