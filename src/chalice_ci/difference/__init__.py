"""What is different between two snapshots of a stage, and what it means."""
