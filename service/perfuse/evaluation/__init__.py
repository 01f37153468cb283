"""Scripts that measure every published claim."""
