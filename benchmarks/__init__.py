"""Measurements that stand behind the figures in the documentation. Every one is a resumable script with ``--smoke``."""
