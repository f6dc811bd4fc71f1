"""A run as one HTML file: `page.html` lays it out."""
