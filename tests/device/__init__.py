"""Whole steps and whole runs on a GPU, where there is one."""
