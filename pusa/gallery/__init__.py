"""The gallery: the known individuals, their encounters, and the search for the nearest ones."""
