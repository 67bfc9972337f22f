"""What the commands give back: typed, immutable, and the words that say it."""
