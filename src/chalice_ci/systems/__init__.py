"""The CI systems: which one this is, and what it says happened, one module for each."""
