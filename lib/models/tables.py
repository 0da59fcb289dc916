"""Tensors that depend on sizes alone (windows, positions), made once a device and kept beside a module."""

import torch

KEPT = 16  # tables: windows, sums of windows


class Tables:
    """Tensors that depend on sizes alone, made once a device: ordinary tensors, whatever mode they were made in.

    Not part of a module's state. `get(key, device, make)` returns what `make(device)` made, or makes it.
    """

    def __init__(self):
        self.kept = {}

    def get(self, key, device, make):
        """The table `key` on `device`."""
        key = (key, str(device))
        if key not in self.kept:
            if len(self.kept) >= KEPT:
                self.kept.clear()
            with torch.inference_mode(False), torch.no_grad():  # made in inference it would be of no use in training
                self.kept[key] = make(device)
        return self.kept[key]
