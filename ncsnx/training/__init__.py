"""Training: the loss, the average of the weights, the loop."""
