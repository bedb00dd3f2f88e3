"""Training of landmark adapters: stage 1 distils full attention, stage 2 learns to refill."""
