"""Training: the loss, the moving average of the weights, the loop."""
