"""What a hospital installs: everything from its images to the sealed release that it lets out."""
