"""Training: services (sharding, optimizers, durations, checkpoints, writers) and their assembly."""
