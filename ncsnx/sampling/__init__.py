"""Drawing images from a trained network: what is asked for, the noise, the model and the folder of samples."""
