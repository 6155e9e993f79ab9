"""Sources of solids: each writes STEP files and reads them back, or reads those that the user keeps."""
