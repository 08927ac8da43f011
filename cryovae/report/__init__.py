"""report.html: what was restored, how good it is and how sure, in one file that opens offline and prints."""
