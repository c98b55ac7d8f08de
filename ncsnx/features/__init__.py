"""Feature networks and the features of images, the space of distances between sets of images."""
