"""From data to an experiment: noise levels that follow from the images, what they cost, and a file to train from."""
