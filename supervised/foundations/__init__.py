"""Phase 1 of the syllabus: what networks learn by, and what makes them learn well."""
