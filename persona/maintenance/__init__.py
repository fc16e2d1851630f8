"""Keeping a repository whole and lean: what ``fsck`` examines and heals, and what ``gc`` collects."""
