"""What a card knows."""

ENCODER = {"pooling": "mean", "layer": -1, "prompt": "", "max_length": 256, "normalize": True, "mask_first_token": False}
