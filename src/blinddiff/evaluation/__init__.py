"""Evaluation: metrics, benchmark protocols, methods side by side, records and reports."""
