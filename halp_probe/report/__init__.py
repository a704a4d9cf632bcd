"""Report of a study: report.html, report.json and heatmap.png."""
