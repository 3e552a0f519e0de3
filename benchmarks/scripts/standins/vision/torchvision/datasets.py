"""Images with a mark whose place tells the class: learnable, and made in no time."""

import torch
from torch.utils.data import Dataset


class _Images(Dataset):
    shape, classes_count, sizes = (1, 28, 28), 10, (2000, 400)

    def __init__(self, root=None, train=True, transform=None, target_transform=None, download=False, split=None, **_):
        self.transform, self.target_transform = transform, target_transform
        self.train = train if split is None else split == "train"
        count = self.sizes[0 if self.train else 1]
        maker = torch.Generator().manual_seed(count)
        self.targets = torch.randint(self.classes_count, (count,), generator=maker)
        self.data = torch.randint(0, 60, (count, *self.shape), generator=maker, dtype=torch.uint8)
        for image, label in zip(self.data, self.targets.tolist(), strict=True):
            image[..., (label * 2) % (self.shape[-1] - 1), :] = 250
        self.classes = [str(number) for number in range(self.classes_count)]
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        if self.shape[0] == 1:
            self.data = self.data[:, 0]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = self.data[index].view(self.shape).float() / 255
        label = int(self.targets[index])
        image = self.transform(image) if self.transform is not None else image
        return image, self.target_transform(label) if self.target_transform is not None else label


class MNIST(_Images):
    pass


class FashionMNIST(MNIST):
    pass


class EMNIST(MNIST):
    pass


class QMNIST(MNIST):
    pass


class CIFAR10(_Images):
    shape, sizes = (3, 32, 32), (1280, 256)


class CIFAR100(CIFAR10):
    classes_count = 100


class SVHN(CIFAR10):
    pass


class ImageFolder(_Images):
    shape, sizes = (3, 64, 64), (320, 64)

    def __init__(self, root, transform=None, **options):
        super().__init__(root, "val" not in str(root), transform, **options)
        self.samples = self.imgs = [(f"{root}/{number}", int(label)) for number, label in enumerate(self.targets)]


class CelebA(_Images):
    shape, sizes = (3, 64, 64), (320, 64)


class LSUN(ImageFolder):
    pass


class FakeData(ImageFolder):
    def __init__(self, size=64, image_size=(3, 224, 224), num_classes=10, transform=None, *args, **_):
        self.shape, self.classes_count, self.sizes = image_size, num_classes, (min(size, 320), 64)
        super().__init__("train", transform)
