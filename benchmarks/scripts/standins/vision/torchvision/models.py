"""Small residual networks under the names of the real ones: the same kinds of modules, a fraction of the work."""

import sys

from torch import nn


class _Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    def __init__(self, num_classes=1000, **_):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=4, padding=3, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = nn.Sequential(_Block(64)), nn.Sequential(_Block(64))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.avgpool(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu()))).flatten(1))


class VGG(nn.Module):
    def __init__(self, num_classes=1000, **_):
        super().__init__()
        layers = [layer for _ in range(15) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *layers)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def _build(kind):
    def build(*args, weights=None, pretrained=False, progress=True, **options):
        return kind(**options)

    return build


resnet18 = resnet34 = resnet50 = resnet101 = resnet152 = _build(ResNet)
vgg16 = vgg19 = vgg11 = _build(VGG)


class _Weights:
    DEFAULT = IMAGENET1K_V1 = IMAGENET1K_V2 = None


ResNet18_Weights = ResNet50_Weights = ResNet152_Weights = VGG16_Weights = VGG19_Weights = _Weights
vgg = resnet = sys.modules[__name__]
model_urls = {}
