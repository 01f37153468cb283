"""Where plans live: mazes, densification and verification. Needs numpy only."""
