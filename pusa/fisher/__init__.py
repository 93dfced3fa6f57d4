"""Fisher vectors: all patches of an encounter as one vector of fixed length."""
