"""What a study's lead runs: enrolment, admission, datasets, and what they are worth."""
