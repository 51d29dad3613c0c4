//! The bytes that clients verify. Pure
