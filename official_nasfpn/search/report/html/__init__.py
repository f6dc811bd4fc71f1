"""A search as one HTML file: `page.html` lays it out, `report.js` sorts the table of trials."""
