"""Transforms on tensors: what changes the shape or the scale does so, what augments leaves the image as it is."""

import sys

import torch
from torch.nn import functional


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class _Same:
    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, image):
        return image


class ToTensor(_Same):
    pass


class Resize:
    def __init__(self, size, *args, **kwargs):
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, image):
        if tuple(image.shape[-2:]) == self.size:
            return image
        return functional.interpolate(image[None], size=self.size)[0]


class Normalize:
    def __init__(self, mean, std, *args, **kwargs):
        self.mean, self.std = (torch.tensor(list(value)).view(-1, 1, 1) for value in (mean, std))

    def __call__(self, image):
        return (image - self.mean) / self.std


class Lambda:
    def __init__(self, function):
        self.function = function

    def __call__(self, image):
        return self.function(image)


class Grayscale(_Same):
    def __call__(self, image):
        return image.mean(0, keepdim=True)


CenterCrop = RandomCrop = RandomResizedCrop = Scale = Resize
(
    RandomHorizontalFlip,
    RandomVerticalFlip,
    RandomRotation,
    RandomAffine,
    ColorJitter,
    RandomErasing,
    ToPILImage,
    Pad,
    RandomGrayscale,
    RandomApply,
) = (_Same,) * 10


class InterpolationMode:
    BICUBIC = BILINEAR = NEAREST = 0


v2 = sys.modules[__name__]
