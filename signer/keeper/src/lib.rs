//! The key processes: the log's spool and key; validation, journal, PKCS#11
