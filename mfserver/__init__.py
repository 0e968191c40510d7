"""One process that does what a Mainflux deployment does; DESIGN in README.rst."""

__all__ = ["__version__"]

__version__ = "0.1.0"
