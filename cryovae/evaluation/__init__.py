"""How good a restoration is: against a truth, against what is measured, and beside answers that cost nothing."""
