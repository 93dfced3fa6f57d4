"""A catalogue from nothing: encounters of which nobody knows the animals, in clusters, by few questions."""
