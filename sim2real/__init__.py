"""Domain randomization and sim-to-sim transfer. Imports envs, agents and supervised."""
