"""Digests of everything that is installed, in pip's own format: synthward.txt, extras.txt, development.txt, other.txt.

`make digests` writes the lists anew from constraints.txt. torch and torchvision are not in them: PyPI's build has CUDA,
PyTorch's own index has others under the same version, and each has its own digest.
"""
