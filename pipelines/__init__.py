"""Ray Data pipelines: index -> detect -> describe -> pattern -> embed -> group -> encode -> identify."""
