"""The mathematics of diffusion: schedules, processes, samplers, guidance. Plain functions of tensors."""
