"""What the items of a stream mean, by SDK."""
