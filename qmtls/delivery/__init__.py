"""What to try, when, and what the answers mean: plans, schedules, outcomes, failure reports. Pure."""
