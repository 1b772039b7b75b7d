"""What lets long work survive a crash."""
