//! chancery: the command line for everybody
