//! The daemon: network, policy, log sequencing, publication. No device, no PIN, no key
