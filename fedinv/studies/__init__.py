"""Many runs: comparisons, assessments and audits."""
