"""What only the course needs: studies, tables, verdicts, pictures, sliders and exercises around the science."""
