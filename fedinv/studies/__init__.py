"""Studies of many runs: comparisons, assessments and audits."""
