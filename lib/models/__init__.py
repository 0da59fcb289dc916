"""The networks. They import torch, transformers and numpy alone, and know nothing of files or data sets."""
