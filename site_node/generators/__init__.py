"""Generators: per_case (SinGAN-Seg, a pyramid for each case) and cohort (one for all training cases of a site).

What both need lies beside them: cases as tensors and random streams (inputs), scales (scaling), the file of a training
that was cut short (checkpoint_file), and what a training says of itself (progress). All of it is patient data.
"""
