"""From the crop of a seal to its ring pattern, and from the pattern to patches (method: section 3)."""
