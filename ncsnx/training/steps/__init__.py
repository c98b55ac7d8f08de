"""One step of training on the device, and the losses on their way from it."""
