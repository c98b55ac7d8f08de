"""The page about runs: facts from their folders, charts, pictures, and one HTML file without scripts."""
