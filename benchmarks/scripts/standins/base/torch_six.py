"""What torch had before 1.13, and numpy before 1.24."""

import math

import numpy

inf = math.inf
numpy.float = float
