"""Real loads beside what the ladder said of them, and the pages in docs/ that say how near it came."""
