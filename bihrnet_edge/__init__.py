"""Binary HRNet for human pose estimation, on real devices."""
