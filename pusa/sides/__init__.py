"""Which side of an animal a picture shows: its left flank, its right, or neither."""
