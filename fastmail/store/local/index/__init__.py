"""The index of the local backend: its tables and rows, and how operations change them. It knows nothing about
Maildirs.
"""
