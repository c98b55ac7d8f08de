"""The page about runs: facts from their folders, plots, pictures, and one HTML file without scripts."""
