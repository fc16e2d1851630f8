"""Maintenance of a repository: what ``fsck`` checks and repairs, and what ``gc`` deletes."""
