"""Phase 2 of the syllabus: networks that see."""
