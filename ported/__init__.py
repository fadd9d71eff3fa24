"""The world without PyTorch: kernels, the devices that run them, and the trainer's parts."""
