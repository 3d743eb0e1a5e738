"""The figures of `report.html`, one file each."""
