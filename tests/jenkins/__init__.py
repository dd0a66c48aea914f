"""The Jenkins library in a real Groovy; `.ci/image` runs it, which brings Groovy."""
