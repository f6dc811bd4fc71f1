"""What the program `detect` does: files, videos, annotations, and the folder it fills."""
