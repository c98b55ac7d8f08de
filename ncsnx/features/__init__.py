"""Feature networks, and the features of images: what distances between sets of images are measured in."""
