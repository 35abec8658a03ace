"""The report as one HTML file: charts as SVG, an explorer, no request to anyone."""
