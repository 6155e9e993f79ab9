"""Sources of detection."""
