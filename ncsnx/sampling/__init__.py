"""Sampling images from a trained network: the request, the noise, the model and the folder of samples."""
