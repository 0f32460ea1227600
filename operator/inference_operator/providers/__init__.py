"""Everything vendor-specific."""
