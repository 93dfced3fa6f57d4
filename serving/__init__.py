"""Ray Serve: the HTTP API and the review pages."""
