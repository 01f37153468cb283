"""What the shipped models learn from: generated tasks and raw sources."""
