"""What a text must be: structures that it is guaranteed to have."""
