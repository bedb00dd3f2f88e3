"""Measures this package beside what else could be done, on the machine at hand."""
