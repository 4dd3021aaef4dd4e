"""Single files: images, labels, pictures and DICOM series, read and written on their own grids."""
