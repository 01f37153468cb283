"""One async function per modality. It reads like the paper's sampling loop and awaits its forwards."""
