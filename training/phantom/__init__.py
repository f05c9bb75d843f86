"""Four-phase abdominal CT of children, generated from a seed, with the truth about every lesion."""
