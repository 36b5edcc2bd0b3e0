"""Supervised papers by phase of the syllabus, one file a paper. Imports nothing of ours."""
