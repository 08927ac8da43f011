"""What a variational model has learned, and what it has not: its bound taken apart, and set beside what costs nothing."""
