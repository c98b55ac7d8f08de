"""The trackers that ncsnx brings, a file for each."""
