"""Environments, and how the workbench builds them. Imports nothing else of ours."""

from envs.make import make_env
from envs.robotics.registration import register
from envs.vector import make_resumable, make_vec, measure_vectorization, vectorizations

__all__ = ["make_env", "make_resumable", "make_vec", "measure_vectorization", "vectorizations"]

register()
