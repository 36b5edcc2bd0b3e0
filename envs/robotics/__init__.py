"""Robots on a table: one scene description, two physics engines, tasks made from both."""
