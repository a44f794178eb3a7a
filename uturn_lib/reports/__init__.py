"""What a reader sees: figures, pages of results, and the commands that make them."""
