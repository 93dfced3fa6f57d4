"""Ray Train shells of the trainings; data, step and loss of each network are in `pusa`."""
