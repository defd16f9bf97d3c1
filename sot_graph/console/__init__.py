"""What the command line shows: text, pictures, pages."""
