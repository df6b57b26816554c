"""Networks: the catalog of architectures, their layers, and nets of users' own files and of torchvision."""
