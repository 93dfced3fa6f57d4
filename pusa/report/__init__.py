"""The report of a run: pages that open offline, and the pictures in them."""
