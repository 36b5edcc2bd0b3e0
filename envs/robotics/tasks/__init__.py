"""One task a file: its scene, its goals, and the environment that gives it to the Panda."""
