"""A grid is its first image; a saved image is a file."""

import torch


def make_grid(images, *args, **kwargs):
    return images[0] if not isinstance(images, torch.Tensor) or images.dim() == 4 else images


def save_image(image, path, *args, **kwargs):
    with open(path, "wb") as file:
        file.write(bytes(16))
