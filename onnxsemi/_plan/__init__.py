"""What a plan is: layers, channels, and the bitwidth of each channel."""
