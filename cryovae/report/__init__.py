"""The report of a restoration, report.html: images, scores and uncertainty in one file that needs no network."""
