"""Launch jobs and sweeps: Kaldi's job interface, many runs of a recipe, a warm Python."""
