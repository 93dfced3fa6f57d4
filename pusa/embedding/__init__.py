"""From a patch of pattern to a vector that tells places on a coat apart (method: section 4)."""
