"""Ours beside Stable-Baselines3: cells, statistics, tables and a report page."""
