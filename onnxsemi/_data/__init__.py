"""Images and labels from .npz files, class folders and readers; preprocessing; disjoint samples."""
