"""A search as one HTML file. Its script, `report.js`, makes the table of all trials."""
