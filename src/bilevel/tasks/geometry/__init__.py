"""Points in the plane with published best constants, scored exactly; README.md has the rules."""
