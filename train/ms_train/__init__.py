"""Training: data to Keras models."""
