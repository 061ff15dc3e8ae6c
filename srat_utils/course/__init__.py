"""What only the course needs: studies, tables, claims, pictures, sliders and exercises around the science."""
