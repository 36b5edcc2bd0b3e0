"""Environments, and how the workbench builds them. Imports nothing else of ours."""

from envs.vector import make_vec

__all__ = ["make_vec"]
