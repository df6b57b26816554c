"""At how many bits, at which learning rate, with which rounding does training still work, and why does it stop?"""

__version__ = "0.1.0"
