"""Individual grouping: which instances of one sequence are the same animal."""
