"""IAM policies: what a deploy needs, what a document grants, and how the two differ. Pure."""
